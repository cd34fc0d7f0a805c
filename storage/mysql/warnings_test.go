package mysql

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/mysql/mysqltest"
)

// wantWarnings fails unless there is one warning for each text, and no other.
func wantWarnings(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %d warnings", what, got, len(want))
		return
	}
	for i, text := range want {
		if !strings.Contains(got[i], text) {
			t.Errorf("%s: %q, want %q in it", what, got[i], text)
		}
	}
}

// TestWarnings: each setting on a real server, with a real replica.
func TestWarnings(t *testing.T) {
	primary := mysqltest.Start(t, "--server-id=1", "--log-bin=binlog", "--sync-binlog=1")
	b := mustOpen(t, primary.NewDatabase(t))
	const lazy = "innodb_flush_log_at_trx_commit is"
	for _, step := range []struct {
		statement string
		want      []string
	}{
		{"DO 0", nil},
		{"SET GLOBAL innodb_flush_log_at_trx_commit = 0", []string{lazy + " 0, so"}},
		{"SET GLOBAL innodb_flush_log_at_trx_commit = 2", []string{lazy + " 2, so"}},
		{"SET GLOBAL sync_binlog = 0", []string{lazy + " 2", "sync_binlog is 0, so"}},
		{"SET GLOBAL innodb_flush_log_at_trx_commit = 3", nil},
		{"SET GLOBAL innodb_flush_log_at_trx_commit = 1", []string{"sync_binlog is 0, so"}},
		{"SET GLOBAL sync_binlog = 1", nil},
	} {
		admin(t, primary, step.statement)
		wantWarnings(t, step.statement, b.Warnings(t.Context()), step.want...)
	}

	replica := mysqltest.Start(t, "--server-id=2")
	other := mustOpen(t, replica.NewDatabase(t))
	host, port, _ := net.SplitHostPort(primary.Address)
	admin(t, replica, "CHANGE MASTER TO MASTER_HOST = '"+host+"', MASTER_PORT = "+port+", MASTER_USER = '"+mysqltest.User+
		"', MASTER_PASSWORD = '"+mysqltest.Password+"', MASTER_USE_GTID = slave_pos")
	admin(t, replica, "START SLAVE")
	await(t, "the replica", func() bool { return status(t, primary, "Slaves_connected") == 1 })
	wantWarnings(t, "with a replica", b.Warnings(t.Context()), "replication is asynchronous")
	await(t, "replication", func() bool { return len(other.Warnings(t.Context())) > 0 })
	wantWarnings(t, "on a replica", other.Warnings(t.Context()), "the server is a replica")

	admin(t, primary, "SET GLOBAL rpl_semi_sync_master_enabled = 1")
	admin(t, replica, "SET GLOBAL rpl_semi_sync_slave_enabled = 1")
	admin(t, replica, "STOP SLAVE")
	admin(t, replica, "START SLAVE")
	await(t, "semi-synchronous replication", func() bool { return status(t, primary, "Rpl_semi_sync_master_clients") == 1 })
	wantWarnings(t, "with a semi-synchronous replica", b.Warnings(t.Context()), "replication is semi-synchronous")
	if err := b.Create(t.Context(), "key", nil); err != nil {
		t.Error(err)
	}

	replica.Kill(t)
	primary.Kill(t)
	wantWarnings(t, "without a server", b.Warnings(t.Context()), "could not be read")
}

func TestWarningsOfDisk(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--innodb-doublewrite=0", "--innodb-flush-method=nosync"}, []string{"innodb_flush_method is nosync", "innodb_doublewrite is OFF"}},
		{[]string{"--innodb-flush-method=O_DIRECT_NO_FSYNC"}, []string{"innodb_flush_method is O_DIRECT_NO_FSYNC"}},
		{[]string{"--innodb-flush-method=fsync"}, nil},
	} {
		server := mysqltest.Start(t, test.args...)
		b := mustOpen(t, server.NewDatabase(t))
		wantWarnings(t, strings.Join(test.args, " "), b.Warnings(t.Context()), test.want...)
	}
}

// TestWarningsOfMySQL: MySQL has other names, values and defaults.
func TestWarningsOfMySQL(t *testing.T) {
	good := serverSettings{"innodb_flush_log_at_trx_commit": "1", "innodb_doublewrite": "ON", "innodb_flush_method": "fsync",
		"log_bin": "ON", "sync_binlog": "1", "innodb_redo_log_enabled": "ON", "binlog_dumps": "0"}
	wantWarnings(t, "all good", good.warnings())
	for _, test := range []struct{ name, value, want string }{
		{"innodb_doublewrite", "DETECT_ONLY", "innodb_doublewrite is DETECT_ONLY"},
		{"innodb_doublewrite", "DETECT_AND_RECOVER", ""},
		{"innodb_redo_log_enabled", "OFF", "the redo log of InnoDB is disabled"},
		{"sync_binlog", "1000", "sync_binlog is 1000"},
		{"binlog_dumps", "2", "replication is asynchronous"},
		{"rpl_semi_sync_source_status", "ON", ""},
	} {
		s := maps.Clone(good)
		s[test.name] = test.value
		want := slices.DeleteFunc([]string{test.want}, func(s string) bool { return s == "" })
		wantWarnings(t, test.name+" "+test.value, s.warnings(), want...)
	}
}
