package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// table is the name of a table of ours, of letters, digits and underscores.
type table string

const (
	// The primary key begins with the name, so that all parts of an object lie
	// together. The index names is for listings: a scan of the names in the primary key
	// would read all content that is short enough to lie in the row.
	columns = "name varbinary(512), part int, size bigint, content longblob(4294967295)"
	keys    = "PRIMARY 0 name, PRIMARY 0 part, names 1 name"
)

func (t table) schema() string {
	return "CREATE TABLE IF NOT EXISTS " + t.quoted() + " (name VARBINARY(512) NOT NULL, part INT UNSIGNED NOT NULL," +
		" size BIGINT UNSIGNED NOT NULL, content LONGBLOB NOT NULL, PRIMARY KEY (name, part), KEY names (name))" +
		" ENGINE = InnoDB ROW_FORMAT = DYNAMIC"
}

func (t table) quoted() string { return "`" + string(t) + "`" }

// insert takes name, part, size and content.
func (t table) insert() string {
	return "INSERT INTO " + t.quoted() + " (name, part, size, content) VALUES (?, ?, ?, ?)"
}

// get takes the name, a first part, how much of that to skip, the most to take
// of a part, the name again and the first and last part. The first row tells a
// missing object from a range beyond the end, without touching content.
func (t table) get() string {
	return "SELECT 0, size, '' FROM " + t.quoted() + " WHERE name = ? AND part = 0 UNION ALL" +
		" SELECT part, size, SUBSTRING(content, IF(part = ?, ?, 0) + 1, ?) FROM " + t.quoted() +
		" WHERE name = ? AND part BETWEEN ? AND ?"
}

// list takes the bounds of names and how many.
func (t table) list() string {
	return "SELECT name FROM " + t.quoted() + " FORCE INDEX (names)" +
		" WHERE part = 0 AND name >= ? AND name < ? ORDER BY name LIMIT ?"
}

// delete takes n names.
func (t table) delete(n int) string {
	return "DELETE FROM " + t.quoted() + " WHERE name IN (?" + strings.Repeat(", ?", n-1) + ")"
}

// settle takes a value that was never used before.
func (t table) settle() string {
	return "REPLACE INTO " + t.quoted() + " (name, part, size, content) VALUES ('', 0, 0, ?)"
}

// ready makes sure that the table exists and has the right columns.
func (t table) ready(ctx context.Context, db *sql.DB) error {
	err := t.inspect(ctx, db)
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if _, err := db.ExecContext(ctx, t.schema()); err != nil {
		return fmt.Errorf("table %q does not exist and could not be created (let an administrator run %q): %w", t, t.schema(), refusal(err))
	}
	return t.inspect(ctx, db)
}

// inspect compares the table with what it should be. If names were text and not bytes,
// A and a would be one object. Another unique key, or a key on only the beginning of
// the name, would refuse names that are free.
func (t table) inspect(ctx context.Context, db *sql.DB) error {
	var engine, gotColumns, gotKeys sql.NullString
	err := db.QueryRowContext(ctx, `SELECT ENGINE,
		(SELECT GROUP_CONCAT(CONCAT(COLUMN_NAME, ' ', DATA_TYPE, IFNULL(CONCAT('(', CHARACTER_MAXIMUM_LENGTH, ')'), ''))
			ORDER BY ORDINAL_POSITION SEPARATOR ', ')
			FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME),
		(SELECT GROUP_CONCAT(CONCAT(INDEX_NAME, ' ', NON_UNIQUE, ' ', COLUMN_NAME, IFNULL(CONCAT('(', SUB_PART, ')'), ''))
			ORDER BY NON_UNIQUE, INDEX_NAME, SEQ_IN_INDEX SEPARATOR ', ')
			FROM information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME)
		FROM information_schema.TABLES t WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?`, string(t)).
		Scan(&engine, &gotColumns, &gotKeys)
	switch {
	case err != nil:
		return fmt.Errorf("look for table %q: %w", t, refusal(err))
	case engine.String != "InnoDB":
		return fmt.Errorf("table %q has the engine %q: it must be InnoDB, the only one that stores an object atomically and durably", t, engine.String)
	case gotColumns.String != columns:
		return fmt.Errorf("table %q was not made by Weir: its columns are %s, not %s", t, gotColumns.String, columns)
	case gotKeys.String != keys:
		return fmt.Errorf("table %q was not made by Weir: its keys are %s, not %s", t, gotKeys.String, keys)
	}
	return nil
}
