package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
)

// usage is the error for a URL that is not understood. It does not repeat the URL: a
// password may be anywhere in it.
const usage = "the URL must be mysql://user:password@host:port/database?table=…&tls=…, with the password percent-encoded or in MYSQL_PASSWORD"

const (
	// connections is the limit of one Bucket. More make InnoDB no faster, and a server
	// allows 151 by default.
	connections = 32

	// idle is the time after which an unused connection is closed; database/sql may
	// take twice as long. It must be shorter than the server's minute: see setup.
	idle = 20 * time.Second

	// minPacket is the smallest usable max_allowed_packet: a part and its overhead.
	minPacket = partSize + 64<<10
)

// Open opens the bucket that a URL names, and creates its table when it is not
// there:
//
//	mysql://user:password@host:port/database?table=weir&tls=true
//
// The database must exist. The port may be missing (3306), and the table (weir). tls is
// true (TLS with a certificate that the system trusts for the host), skip-verify (TLS
// with any certificate) or false (the default: no TLS). A URL without a password takes
// it from MYSQL_PASSWORD.
//
// The user needs SELECT, INSERT and DELETE, and CREATE if the table is not
// there.
func Open(ctx context.Context, rawURL string) (*Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("mysql bucket: " + usage) // err would quote what may be a password
	}
	config, t, err := parse(u)
	if err != nil {
		return nil, fmt.Errorf("mysql bucket: %w", err)
	}
	b, err := open(ctx, config, t)
	if err != nil {
		return nil, fmt.Errorf("mysql bucket %s on %s: %w", config.DBName, config.Addr, err)
	}
	return b, nil
}

func parse(u *url.URL) (*mysqldriver.Config, table, error) {
	name := regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	database := regexp.MustCompile(`^/[A-Za-z0-9_$-]{1,64}$`)
	if u.Scheme != "mysql" || u.User == nil || u.User.Username() == "" || u.Hostname() == "" ||
		!database.MatchString(u.Path) || u.Fragment != "" {
		return nil, "", errors.New(usage)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", errors.New(usage)
	}
	t, tls := table("weir"), "false"
	for parameter, values := range query {
		value := values[len(values)-1]
		switch {
		case parameter == "table" && name.MatchString(value):
			t = table(value)
		case parameter == "table":
			return nil, "", errors.New("table must be a name of 1 to 64 letters, digits and underscores")
		case parameter == "tls" && (value == "true" || value == "skip-verify" || value == "false"):
			tls = value
		case parameter == "tls":
			return nil, "", errors.New("tls must be true, skip-verify or false")
		case name.MatchString(parameter):
			return nil, "", fmt.Errorf("unknown parameter %q: use table or tls", parameter)
		default:
			return nil, "", errors.New("unknown parameter: use table or tls")
		}
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	password, found := u.User.Password()
	if !found {
		password = os.Getenv("MYSQL_PASSWORD")
	}
	config := mysqldriver.NewConfig()
	config.User, config.Passwd = u.User.Username(), password
	config.Net, config.Addr = "tcp", net.JoinHostPort(u.Hostname(), port)
	config.DBName, config.TLSConfig = u.Path[1:], tls
	config.Timeout = 10 * time.Second // to connect
	config.Logger = &mysqldriver.NopLogger{}
	// Names are written into the text of a statement, which saves the round
	// trip to prepare it. Content never is: see session.prepare.
	config.InterpolateParams = true
	return config, t, nil
}

func open(ctx context.Context, config *mysqldriver.Config, t table) (*Bucket, error) {
	library, err := mysqldriver.NewConnector(config)
	if err != nil {
		return nil, err
	}
	look := sql.OpenDB(&connector{library, setup(false)})
	defer look.Close()
	found, err := settings(ctx, look, variables)
	if err != nil {
		return nil, unreachable(config, err)
	}
	if err := found.usable(); err != nil {
		return nil, err
	}
	db := sql.OpenDB(&connector{library, setup(found.on("wsrep_on"))})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(idle)
	if err := t.ready(ctx, db); err != nil {
		db.Close()
		return nil, err
	}
	return &Bucket{db, t}, nil
}

func unreachable(config *mysqldriver.Config, err error) error {
	switch number(err) {
	case erBadDB:
		return fmt.Errorf("the database does not exist: create it first: %w", err)
	case erAccessDenied, erDBAccessDenied, 1698:
		return fmt.Errorf("the server refuses user %q: %w", config.User, refusal(err))
	}
	return fmt.Errorf("the server does not answer: %w", refusal(err))
}

// usable reports whether the server can hold a bucket at all.
func (s serverSettings) usable() error {
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		if s.on(name) {
			return fmt.Errorf("the server is read-only (%s is on): name the primary in the URL, or turn the setting off", name)
		}
	}
	packet, err := strconv.Atoi(s["max_allowed_packet"])
	if err != nil || packet < minPacket {
		return fmt.Errorf("max_allowed_packet is %s: set it to %d or more on the server", s["max_allowed_packet"], minPacket)
	}
	return nil
}
