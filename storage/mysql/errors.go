package mysql

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/weirmq/weir/storage"
)

// Error numbers of the server, named as in its documentation.
const (
	erDupEntry       = 1062
	erLockDeadlock   = 1213
	erDBAccessDenied = 1044
	erAccessDenied   = 1045
	erBadDB          = 1049
	erTableDenied    = 1142
)

// number returns the server's error number that err carries, or 0.
func number(err error) uint16 {
	var answer *mysqldriver.MySQLError
	if errors.As(err, &answer) {
		return answer.Number
	}
	return 0
}

func taken(err error) bool { return number(err) == erDupEntry }

// deadlock reports whether the server rolled the transaction back so that
// others could go on, or, in a Galera cluster, because another node was first.
func deadlock(err error) bool { return number(err) == erLockDeadlock }

// changed is the error of a statement that commits: one that commits by itself, or
// COMMIT. It depends on what can have happened:
//
//	an error that the server gives only before it commits  nothing happened (see before)
//	any other error of the server                          unknown
//	driver.ErrBadConn                                      nothing happened
//	anything else                                          unknown: the statement may have arrived
//
// The library gives ErrBadConn only when not one byte of the statement was
// taken by the connection.
func changed(err error) error {
	switch {
	case err == nil:
		return nil
	case slices.Contains(before(), number(err)), errors.Is(err, driver.ErrBadConn):
		return refusal(err)
	}
	return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
}

// before lists the errors that mean that nothing happened: the server finds
// them while it reads, checks or executes a statement, then rolls it back, and
// only what was executed is committed.
//
// What is not here counts as unknown, which costs the caller a second look. On
// purpose these are not: 1180 and 1181 (error during COMMIT, ROLLBACK), 1026
// and 1030 (the binary log or the engine could not write), 1053, 1317 and 1927
// (shut down, interrupted, killed: maybe in the middle of the commit), 1969 and
// 3024 (out of time: the same), 3100 (a replication plug-in failed) and 1105
// (anything).
func before() []uint16 {
	return []uint16{
		erDupEntry,
		1205,           // waited too long for a lock; a lone statement is rolled back, a transaction by us
		erLockDeadlock, // rolled back already

		1290, 1792, 1836, // read-only: the server was made a replica
		1047, 3098, // not a working member of the cluster, or not allowed by it
		3101, // the group refused the transaction; rolled back

		erDBAccessDenied, erAccessDenied, erTableDenied, 1143, 1227, 1370, 1698, // no permission
		1040, 1129, 1130, 1203, 1226, // not allowed to connect, or too many connections
		1114, 1197, 1206, // table, cache of the binary log or lock table full
		1153,       // longer than max_allowed_packet: thrown away unread
		1036, 1099, // the table is read-only, or locked so
		1146, erBadDB, 1054, 1064, 1118, 1136, 1364, 1406, // no such table, database, column …: the table was changed
		1243, 1461, 1615, // the prepared statement is gone, there are too many, or it has to be prepared anew
	}
}

// refusal is the error of a request that did nothing, and of reads.
func refusal(err error) error {
	switch number(err) {
	case erDBAccessDenied, erAccessDenied, erTableDenied, 1143, 1227, 1370, 1698:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	if errors.Is(err, driver.ErrBadConn) {
		return errors.New("connection lost before anything was sent")
	}
	return err
}
