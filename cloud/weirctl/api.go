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
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
)

// apiTimeout bounds one request.
const apiTimeout = 30 * time.Second

// cloudFlags say which node to ask, and how.
func (c *call) cloudFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.cloud, "cloud", "http://127.0.0.1:8080", "`URL` of any node's --http")
	fs.StringVar(&c.data, "data", "", "data `directory` of a node on this machine, whose credential to use (default: /var/lib/weir-cloud or ./data/cloud)")
	fs.StringVar(&c.ca, "ca", "system", "PEM `file` of the authority that signed the certificate of an https URL, or system")
	fs.BoolVar(&c.insecure, "insecure", false, "send the credential over plain HTTP to another machine: whoever is on the way can read it")
}

// get, post and del make one request of a node; answer may be nil.
func (c *call) get(ctx context.Context, path string, answer any) error {
	return c.request(ctx, http.MethodGet, path, nil, answer)
}

func (c *call) post(ctx context.Context, path string, body, answer any) error {
	return c.request(ctx, http.MethodPost, path, body, answer)
}

func (c *call) del(ctx context.Context, path string) error {
	return c.request(ctx, http.MethodDelete, path, nil, nil)
}

// base is --cloud.
func (c *call) base() (*url.URL, error) {
	text := strings.TrimRight(c.cloud, "/")
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--cloud: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--cloud %q is not of the form http://HOST:8080 or https://HOST:8080", c.cloud)
	}
	return u, nil
}

// request asks --cloud, and the owner when a standby points there. A credential is
// shown to --cloud alone, wherever that node points.
func (c *call) request(ctx context.Context, method, path string, body, answer any) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	for range 3 {
		owner, err := c.try(ctx, base, method, path, body, answer)
		if owner == "" {
			return err
		}
		base = &url.URL{Scheme: base.Scheme, Host: owner}
	}
	return errors.New("nodes point at each other: ownership is changing, try again")
}

func (c *call) try(ctx context.Context, base *url.URL, method, path string, body, answer any) (owner string, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
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
	shown, err := c.show(req)
	if err != nil {
		return "", err
	}
	client, err := c.client()
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return "", fmt.Errorf("reach the cloud: %w (--ca FILE names the authority that signed it)", err)
	case err != nil:
		return "", fmt.Errorf("reach the cloud: %w", err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
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
			return "", fmt.Errorf("%s answered %s: is it a weir-cloud, and does it want https?", base, res.Status)
		}
		return "", fmt.Errorf("%s answered %s: is it a weir-cloud?", req.URL, res.Status)
	}
	if res.StatusCode == http.StatusMisdirectedRequest && e.Owner != "" && shown.token == "" {
		return e.Owner, nil
	}
	return "", refused(res.StatusCode, e, shown)
}

// refused says what to do about an answer that is no success.
func refused(status int, e console.Error, shown credential) error {
	switch {
	case status == http.StatusUnauthorized && shown.token == "":
		return errors.New("the node wants a credential, and none was found: use --data with the node's data directory, " + tokenVariable + ", or weirctl login")
	case status == http.StatusUnauthorized, status == http.StatusTooManyRequests && shown.token != "":
		return fmt.Errorf("the node does not know the credential of %s: %s", shown.from, e.Error)
	case status == http.StatusMisdirectedRequest && e.Owner != "":
		return fmt.Errorf("%s: ask the owner with --cloud and its address, %s", e.Error, e.Owner)
	}
	return errors.New(e.Error)
}

// show adds the credential to a request, if there is one and the way is safe.
func (c *call) show(req *http.Request) (credential, error) {
	if c.shown == nil {
		found, err := c.credentialFor(req.URL)
		if err != nil {
			return found, err
		}
		c.shown = &found
	}
	if c.shown.token == "" {
		return *c.shown, nil
	}
	if req.URL.Scheme == "http" && !c.insecure && !loopback(req.URL) {
		return *c.shown, fmt.Errorf("the credential of %s would be sent over plain HTTP to %s: use an https URL, or say --insecure", c.shown.from, req.URL.Host)
	}
	req.Header.Set("Authorization", "Bearer "+c.shown.token)
	return *c.shown, nil
}

// client asks nodes. It follows no redirect: a node sends none.
func (c *call) client() (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
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
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// print writes v as JSON if that was asked for; else the caller prints text.
func (c *call) print(v any) (done bool, err error) {
	if !c.json {
		return false, nil
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", "  ")
	return true, enc.Encode(v)
}
