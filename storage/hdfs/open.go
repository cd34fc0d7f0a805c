package hdfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/storage"
)

// Open opens the bucket in the folder that a URL names, creates the folder when
// it is missing, and removes temporary files that dead writers left behind:
//
//	hdfs://namenode:9870/some/folder?user=name&tls=true
//	hdfs://namenode1:9870,namenode2:9870/some/folder
//
// The port is that of the namenode's web interface, not of its RPC; it may be missing
// (9870, or 9871 with TLS). Of several namenodes the active one is used. The files
// belong to user; if it is missing, the server decides.
func Open(ctx context.Context, rawURL string) (*Bucket, error) {
	if authority, _ := split(rawURL); strings.Contains(authority, "@") {
		return nil, errors.New("bucket hdfs: the URL must not have credentials: use hdfs://namenode:9870/folder?user=name")
	}
	b, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", rawURL, err)
	}
	if err := b.begin(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("bucket %s: %w", rawURL, err)
	}
	return b, nil
}

// split cuts a URL after its hosts, because net/url does not accept commas between
// them.
func split(rawURL string) (authority, rest string) {
	authority = strings.TrimPrefix(rawURL, "hdfs://")
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		return authority[:i], authority[i:]
	}
	return authority, ""
}

// parse sets up the bucket. It sends nothing yet.
func parse(rawURL string) (*Bucket, error) {
	authority, rest := split(rawURL)
	if !strings.HasPrefix(rawURL, "hdfs://") || authority == "" {
		return nil, errors.New("the URL must be hdfs://namenode:9870/folder?user=name&tls=true")
	}
	u, err := url.Parse(rest)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	for name := range query {
		if !slices.Contains([]string{"user", "tls"}, name) {
			return nil, fmt.Errorf("unknown parameter %q: use user or tls", name)
		}
	}
	scheme, port := "http", "9870"
	switch tls := query.Get("tls"); tls {
	case "", "false":
	case "true":
		scheme, port = "https", "9871"
	default:
		return nil, fmt.Errorf("tls is %q: it must be true or false", tls)
	}
	nodes, err := hosts(authority, port)
	if err != nil {
		return nil, err
	}
	// The bucket needs a folder of its own: everything in it is taken for an object.
	folder := strings.Trim(u.Path, "/")
	if err := storage.CheckKey(folder); err != nil {
		return nil, fmt.Errorf("the URL must name a folder, as in hdfs://namenode:9870/weir: %w", err)
	}
	c := &client{http: newHTTP(), scheme: scheme, nodes: nodes, user: query.Get("user")}
	return &Bucket{client: c, root: "/" + folder}, nil
}

// hosts returns the namenodes, each with a port.
func hosts(authority, port string) ([]string, error) {
	nodes := strings.Split(authority, ",")
	for i, node := range nodes {
		if !strings.Contains(node, ":") {
			node = net.JoinHostPort(node, port)
		}
		host, port, err := net.SplitHostPort(node)
		if err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("%q is not host:port", nodes[i])
		}
		nodes[i] = node
	}
	return nodes, nil
}

// newHTTP makes a client that follows no redirect: each request decides what it sends
// to a datanode.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 64,
			// Well below the 60 s after which a namenode closes the connection: a
			// rename on a connection that is being closed has an unknown outcome.
			IdleConnTimeout: 10 * time.Second,
			// A compressed answer has no length to check against.
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// begin checks that the server can hold a bucket, and that we may write there.
func (b *Bucket) begin(ctx context.Context) error {
	if err := b.checkStates(ctx); err != nil {
		return err
	}
	if err := b.makeDir(ctx, b.tempDir()); err != nil {
		return fmt.Errorf("create the folder: %w", refusal(err))
	}
	if err := b.checkRename(ctx); err != nil {
		return err
	}
	if err := b.clean(ctx); err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	return nil
}

// checkStates refuses namenodes that answer reads from an old state of the file system:
// with them Get and List would miss objects. A namenode that is down or does not tell
// is accepted.
func (b *Bucket) checkStates(ctx context.Context) error {
	for _, node := range b.client.nodes {
		var status struct{ State string }
		err := b.client.bean(ctx, node, "NameNodeStatus", &status)
		if err == nil && status.State == "observer" {
			return fmt.Errorf("%s is an observer namenode, whose answers are old: name only namenodes that can become active", node)
		}
	}
	return nil
}

// checkRename checks, with a name that does not exist, whether the server supports the
// rename that Create needs. HttpFS ignores the option, and its rename moves a file into
// a folder of the new name.
func (b *Bucket) checkRename(ctx context.Context) error {
	err := b.rename(ctx, b.tempName(), b.tempName())
	switch {
	case err == nil:
		return errors.New("the server cannot rename without overwriting (HttpFS cannot): use the address of the namenode itself")
	case exception(err) != notFound:
		return fmt.Errorf("try a rename: %w", refusal(err))
	}
	return nil
}
