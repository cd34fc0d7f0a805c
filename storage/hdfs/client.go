package hdfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
)

// client speaks WebHDFS. It sends every request once, with one exception: a namenode
// that cannot be reached or is not the active one has done nothing, and the next one is
// asked.
type client struct {
	http   *http.Client
	scheme string       // http or https, for namenodes and datanodes
	nodes  []string     // host:port of the namenodes
	user   string       // "" = as the server decides
	active atomic.Int32 // index of the namenode that answered last
}

// params are the parameters of an operation.
type params map[string]string

// fileStatus is what the namenode tells about a file or folder.
type fileStatus struct {
	PathSuffix       string // the name, in a listing of its folder
	Type             string // FILE, DIRECTORY, SYMLINK
	Length           int64
	ModificationTime int64 // ms since 1970: of a file, when it was closed
	Replication      int
	ECPolicy         string // erasure coding
}

// call executes an operation of the namenode, and reads its answer unless answer is
// nil. If an operation changes something, the change is in the namenode's log, and the
// log on its disks, when call returns nil.
func (c *client) call(ctx context.Context, method, path, op string, p params, answer any) error {
	resp, err := c.ask(ctx, method, path, op, p)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s to %s", resp.Status, op)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", op, err)
	}
	return nil
}

// datanode asks the namenode where to send content or to fetch it from. That changes
// nothing.
func (c *client) datanode(ctx context.Context, method, path, op string, p params) (string, error) {
	resp, err := c.ask(ctx, method, path, op, p)
	if err != nil {
		return "", err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusTemporaryRedirect {
		return "", fmt.Errorf("the namenode answered %s to %s instead of naming a datanode", resp.Status, op)
	}
	target, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("address of a datanode: %w", err)
	}
	if target.Scheme != c.scheme {
		return "", fmt.Errorf("datanode %s is offered with scheme %s, the namenode was reached with %s", target.Host, target.Scheme, c.scheme)
	}
	return target.String(), nil
}

// ask sends a request to the active namenode. The answer is a success or a
// redirect.
func (c *client) ask(ctx context.Context, method, path, op string, p params) (*http.Response, error) {
	query := url.Values{"op": {op}}
	if c.user != "" {
		query.Set("user.name", c.user)
	}
	for name, value := range p {
		query.Set(name, value)
	}
	first := int(c.active.Load())
	for i := 0; ; i++ {
		n := (first + i) % len(c.nodes)
		target := url.URL{Scheme: c.scheme, Host: c.nodes[n], Path: "/webhdfs/v1" + path, RawQuery: query.Encode()}
		resp, err := c.send(ctx, method, target.String(), nil)
		if again := standby(err) || errors.Is(err, errUnsent); again && i+1 < len(c.nodes) {
			continue
		}
		c.active.Store(int32(n))
		return resp, err
	}
}

// send sends one request, once. The error wraps errUnsent if there was no connection to
// send it on.
func (c *client) send(ctx context.Context, method, target string, body []byte) (*http.Response, error) {
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsent, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the long URL
		}
		if !connected {
			err = fmt.Errorf("%w: %w", errUnsent, err)
		}
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusTemporaryRedirect:
		return resp, nil
	}
	defer drain(resp)
	return nil, fmt.Errorf("%s: %w", req.URL.Host, answerError(resp))
}

// drain reads an answer to its end so that its connection can be used again.
func drain(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}

// page reads one of a server's own pages, as JSON.
func (c *client) page(ctx context.Context, node, path string, query url.Values, answer any) error {
	target := url.URL{Scheme: c.scheme, Host: node, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", node, answerError(resp))
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read %s of %s: %w", path, node, err)
	}
	return nil
}

// bean reads the metrics with the given name of a namenode.
func (c *client) bean(ctx context.Context, node, name string, bean any) error {
	var answer struct{ Beans []json.RawMessage }
	query := url.Values{"qry": {"Hadoop:service=NameNode,name=" + name}}
	if err := c.page(ctx, node, "/jmx", query, &answer); err != nil {
		return err
	}
	if len(answer.Beans) == 0 {
		return fmt.Errorf("%s has no metrics %s", node, name)
	}
	return json.Unmarshal(answer.Beans[0], bean)
}
