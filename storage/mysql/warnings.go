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
		return []string{fmt.Sprintf("the settings of the server could not be read, so it is not known whether it can lose objects: %v", err)}
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
		warn("innodb_flush_log_at_trx_commit is %s, so a crash loses the objects of the last second: set it to 1", flush)
	}
	// A transaction that InnoDB has only prepared is rolled back after a crash
	// when it is not in the binary log.
	if s.on("log_bin") && s["sync_binlog"] != "1" && flush != "3" {
		warn("sync_binlog is %s, so after a power cut the server rolls back what its binary log lacks: set it to 1", s["sync_binlog"])
	}
	switch s["innodb_flush_method"] {
	case "nosync", "littlesync", "O_DIRECT_NO_FSYNC":
		warn("innodb_flush_method is %s, so a power cut loses what the disk had not written yet: set it to fsync or O_DIRECT", s["innodb_flush_method"])
	}
	switch value := strings.ToUpper(s["innodb_doublewrite"]); value {
	case "OFF", "0", "DETECT_ONLY":
		warn("innodb_doublewrite is %s, so a page that is half written at a power cut is damaged for good: set it to ON", value)
	}
	if s["innodb_redo_log_enabled"] != "" && !s.on("innodb_redo_log_enabled") {
		warn("the redo log of InnoDB is disabled, so a crash loses the whole database: enable it")
	}
	if s.on("slave_running") {
		warn("the server is a replica: its primary does not get the objects that are stored here")
	}
	switch {
	case !s.on("slaves_connected") && !s.on("binlog_dumps"): // no replicas
	case s.on("rpl_semi_sync_master_status"), s.on("rpl_semi_sync_source_status"):
		warn("replication is semi-synchronous: when replicas are slow, the server does not wait for them, and a failover loses the newest objects")
	default:
		warn("replication is asynchronous: a failover loses the newest objects")
	}
	return all
}
