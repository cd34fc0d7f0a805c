package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
)

// How long one request may take. With several nodes another one is tried soon.
const (
	apiTimeout  = 30 * time.Second
	dialTimeout = 3 * time.Second
	nodeTimeout = 5 * time.Second // of a request that only reads, if there are several nodes
)

// cloudFlags select the node to ask.
func (c *call) cloudFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.cloud, "cloud", "http://127.0.0.1:8080", "`URL` of any node's --http, or several, separated by commas: the next is tried if one does not answer")
	fs.StringVar(&c.data, "data", "", "`directory` that is --data of a node on this machine: its credential is used (default: /var/lib/weir-cloud or ./data/cloud)")
	c.dirs = localData()
	c.wayFlags(fs)
}

// wayFlags select what is trusted on the connection.
func (c *call) wayFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.ca, "ca", "system", "PEM `file` with the CA that signed the certificate of an https URL, or system for those of this machine")
	fs.BoolVar(&c.insecure, "insecure", false, "send the credential over plain HTTP to another machine, where it can be read on the network")
}

// get, post and del send one request to a node; answer may be nil.
func (c *call) get(ctx context.Context, path string, answer any) error {
	return c.request(ctx, http.MethodGet, path, nil, answer)
}

func (c *call) post(ctx context.Context, path string, body, answer any) error {
	return c.request(ctx, http.MethodPost, path, body, answer)
}

func (c *call) del(ctx context.Context, path string) error {
	return c.request(ctx, http.MethodDelete, path, nil, nil)
}

// nodes returns the nodes of --cloud. The one that answered last comes first.
func (c *call) nodes() ([]*url.URL, error) {
	var all []*url.URL
	for one := range strings.SplitSeq(c.cloud, ",") {
		text := strings.TrimRight(strings.TrimSpace(one), "/")
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("--cloud: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("--cloud %q is not of the form http://HOST:8080 or https://HOST:8080", one)
		}
		if c.answered != "" && key(u) == c.answered {
			all = append([]*url.URL{u}, all...)
			continue
		}
		all = append(all, u)
	}
	return all, nil
}

// base returns --cloud, which must name one node.
func (c *call) base() (*url.URL, error) {
	all, err := c.nodes()
	if err == nil && len(all) > 1 {
		err = errors.New("--cloud names several nodes: login and logout take one")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// kind returns what is asked, for messages.
func (c *call) kind() string {
	if slices.Equal(c.dirs, gatewayData()) {
		return "gateway"
	}
	return "cloud"
}

// errElsewhere: another node may have an answer. The request was not executed.
var errElsewhere = errors.New("not answered")

// request asks the nodes of --cloud one after the other until one answers.
func (c *call) request(ctx context.Context, method, path string, body, answer any) error {
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	var failed []error
	for _, base := range nodes {
		var e elsewhere
		err := c.ask(ctx, base, len(nodes) > 1, method, path, body, answer)
		switch another := errors.Is(err, errElsewhere); {
		case !another && err == nil:
			c.answered = key(base)
			return nil
		case len(nodes) == 1 && errors.As(err, &e) && e.unreached:
			return fmt.Errorf("reach the %s at %s: %w", c.kind(), base, err)
		case !another, len(nodes) == 1, ctx.Err() != nil:
			return err
		}
		failed = append(failed, fmt.Errorf("  %s: %w", key(base), err))
	}
	return fmt.Errorf("no node of --cloud has an answer:\n%w", errors.Join(failed...))
}

// ask asks a node, and the owner if a standby redirects to it. The credential is sent
// only to the node itself.
func (c *call) ask(ctx context.Context, base *url.URL, several bool, method, path string, body, answer any) error {
	shown, err := c.credential(base)
	if err != nil {
		return err
	}
	limit := apiTimeout
	if several && method == http.MethodGet {
		limit = nodeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for range 3 {
		owner, err := c.try(ctx, base, shown, method, path, body, answer)
		if owner == "" {
			return err
		}
		base = &url.URL{Scheme: base.Scheme, Host: owner}
	}
	return errors.New("the nodes redirect to each other: the owner is changing, try again")
}

func (c *call) try(ctx context.Context, base *url.URL, shown credential, method, path string, body, answer any) (owner string, err error) {
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return "", err
		}
		payload = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, base.String()+path, payload)
	if err != nil {
		return "", fmt.Errorf("--cloud: %w", err)
	}
	if err := c.show(req, shown); err != nil {
		return "", err
	}
	client, err := c.client()
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", unreached(c.kind(), base, method, err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	if late := res.Header.Get(console.LateHeader); late != "" {
		fmt.Fprintf(c.stderr, "weirctl: not applied yet by %s: a node that hears nothing goes on with what it knew for a minute at most\n", late)
	}
	if res.StatusCode == http.StatusOK {
		if answer == nil {
			return "", nil
		}
		if err := dec.Decode(answer); err != nil {
			return "", fmt.Errorf("decode the answer: %w", err)
		}
		return "", nil
	}
	var e console.Error
	if err := dec.Decode(&e); err != nil || e.Error == "" {
		if req.URL.Scheme == "http" && res.StatusCode == http.StatusBadRequest {
			return "", fmt.Errorf("%s answered %s: is it a weir-cloud, and does its URL begin with https?", base, res.Status)
		}
		return "", fmt.Errorf("%s answered %s: is it a weir-cloud?", req.URL, res.Status)
	}
	if res.StatusCode == http.StatusMisdirectedRequest && e.Owner != "" && shown.token == "" {
		return e.Owner, nil
	}
	if err := refused(res.StatusCode, e, shown); res.StatusCode != http.StatusMisdirectedRequest &&
		(res.StatusCode != http.StatusServiceUnavailable || method != http.MethodGet) {
		return "", err
	} else {
		return "", elsewhere{err, false}
	}
}

// elsewhere is an error after which another node may have an answer.
type elsewhere struct {
	error
	unreached bool // the node did not answer at all
}

func (elsewhere) Is(target error) bool { return target == errElsewhere }
func (e elsewhere) Unwrap() error      { return e.error }

// unreached returns the error for a request without an answer. If it was sent and may
// have changed something, no other node must be asked.
func unreached(what string, base *url.URL, method string, err error) error {
	var unknown x509.UnknownAuthorityError
	var dial *net.OpError
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // without the URL, which is named once
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("it did not answer in time")
	}
	dialled := !errors.As(err, &dial) || dial.Op != "dial"
	switch {
	case !dialled:
		err = dial.Err // without the address, which is named too
	case errors.As(err, &unknown):
		err = fmt.Errorf("%w (--ca FILE names the authority that signed it)", err)
	}
	if method == http.MethodGet || !dialled || errors.As(err, &unknown) {
		return elsewhere{err, true}
	}
	return fmt.Errorf("reach the %s at %s: %w; the change may have been made, check it before you repeat it", what, base, err)
}

// refused returns the error for an answer that reports one, with advice.
func refused(status int, e console.Error, shown credential) error {
	switch {
	case status == http.StatusUnauthorized && shown.token == "":
		return errors.New("the node asks for a credential, and none was found: set --data to the node's data directory, set " + tokenVariable + ", or run weirctl login")
	case status == http.StatusUnauthorized, status == http.StatusTooManyRequests && shown.token != "":
		return fmt.Errorf("the node does not know the credential of %s: %s", shown.from, e.Error)
	case status == http.StatusMisdirectedRequest && e.Owner != "":
		return fmt.Errorf("%s: set --cloud to the owner's address, %s", e.Error, e.Owner)
	}
	return errors.New(e.Error)
}

// credential returns the credential for a node of --cloud.
func (c *call) credential(base *url.URL) (credential, error) {
	if c.shown != nil {
		return *c.shown, nil
	}
	return c.credentialFor(base)
}

// show adds a credential to a request if there is one and the connection is safe.
func (c *call) show(req *http.Request, shown credential) error {
	if shown.token == "" {
		return nil
	}
	if req.URL.Scheme == "http" && !c.insecure && !loopback(req.URL) {
		return fmt.Errorf("the credential of %s would be sent over plain HTTP to %s: use an https URL, or set --insecure", shown.from, req.URL.Host)
	}
	req.Header.Set("Authorization", "Bearer "+shown.token)
	return nil
}

// client returns an HTTP client. It follows no redirect: a node sends none.
func (c *call) client() (*http.Client, error) {
	if c.asker != nil {
		return c.asker, nil
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout}
	if c.ca != "system" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s holds no certificate", c.ca)
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	c.asker = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c.asker, nil
}

// done prints a line about what was done.
func (c *call) done(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if printed, err := c.print(map[string]string{"done": text}); printed {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, text)
	return err
}

// print writes v as JSON if --output asks for that; otherwise the caller prints text.
func (c *call) print(v any) (done bool, err error) {
	if !c.json {
		return false, nil
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", "  ")
	return true, enc.Encode(v)
}
