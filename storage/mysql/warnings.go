package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// serverSettings are the variables and the state of a server by name, in lower
// case. What a server does not have is missing.
type serverSettings map[string]string

// on reports whether a switch is set: some have more values than on and off.
func (s serverSettings) on(name string) bool {
	return !slices.Contains([]string{"", "OFF", "0", "NO"}, strings.ToUpper(s[name]))
}

// What to ask a server for. Only MariaDB counts its replicas; elsewhere they are
// seen by the threads that send to them, if the user has PROCESS.
const (
	variables = `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only',
		'max_allowed_packet', 'wsrep_on', 'innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'innodb_flush_method',
		'log_bin', 'sync_binlog')`
	state = `SHOW GLOBAL STATUS WHERE Variable_name IN ('Slaves_connected', 'Slave_running', 'Innodb_redo_log_enabled',
		'Rpl_semi_sync_master_status', 'Rpl_semi_sync_source_status')`
	senders = `SELECT 'binlog_dumps', COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'`
)

// settings asks the server.
func settings(ctx context.Context, db *sql.DB, questions ...string) (serverSettings, error) {
	s := make(serverSettings)
	for _, question := range questions {
		if err := s.read(ctx, db, question); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s serverSettings) read(ctx context.Context, db *sql.DB, statement string) error {
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		s[strings.ToLower(name)] = value
	}
	return rows.Err()
}

// Warnings returns a sentence for each setting of the server under which it can lose an
// object that Create reported as stored. It reads the settings at the time of the call,
// and sees the replicas that are connected then.
func (b *Bucket) Warnings(ctx context.Context) []string {
	s, err := settings(ctx, b.db, variables, state, senders)
	if err != nil {
		return []string{fmt.Sprintf("the settings of the server could not be read, so it is not known whether it keeps what it stores: %v", err)}
	}
	return s.warnings()
}

// warnings handles MariaDB and MySQL, and their names for replicas.
func (s serverSettings) warnings() []string {
	var all []string
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	// With 3 MariaDB syncs once more than with 1.
	flush := s["innodb_flush_log_at_trx_commit"]
	if flush != "1" && flush != "3" {
		warn("innodb_flush_log_at_trx_commit is %s and not 1: a crash loses what was stored in the second before it", flush)
	}
	// A transaction that InnoDB has only prepared is rolled back after a crash
	// when it is not in the binary log.
	if s.on("log_bin") && s["sync_binlog"] != "1" && flush != "3" {
		warn("sync_binlog is %s and not 1: after a power cut the server rolls back what is missing in its binary log", s["sync_binlog"])
	}
	switch s["innodb_flush_method"] {
	case "nosync", "littlesync", "O_DIRECT_NO_FSYNC":
		warn("innodb_flush_method is %s: a power cut loses what the disk had not written yet", s["innodb_flush_method"])
	}
	switch value := strings.ToUpper(s["innodb_doublewrite"]); value {
	case "OFF", "0", "DETECT_ONLY":
		warn("innodb_doublewrite is %s: a page that a power cut interrupts is damaged for good", value)
	}
	if s["innodb_redo_log_enabled"] != "" && !s.on("innodb_redo_log_enabled") {
		warn("the redo log of InnoDB is disabled: a crash loses the whole database")
	}
	if s.on("slave_running") {
		warn("the server is a replica of another one: what is stored here is not there")
	}
	switch {
	case !s.on("slaves_connected") && !s.on("binlog_dumps"): // no replicas
	case s.on("rpl_semi_sync_master_status"), s.on("rpl_semi_sync_source_status"):
		warn("the server goes on without its replicas when they are slow: a failover then loses what they had not received")
	default:
		warn("the server does not wait for its replicas: a failover loses what they had not received")
	}
	return all
}
