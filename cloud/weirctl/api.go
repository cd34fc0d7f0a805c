package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/console"
)

// apiTimeout bounds one request.
const apiTimeout = 30 * time.Second

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

// request asks --cloud, and the owner when a standby points there.
func (c *call) request(ctx context.Context, method, path string, body, answer any) error {
	base := strings.TrimRight(c.cloud, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	for range 3 {
		owner, err := c.try(ctx, method, base+path, body, answer)
		if owner == "" {
			return err
		}
		base = "http://" + owner
	}
	return errors.New("nodes point at each other: ownership is changing, try again")
}

func (c *call) try(ctx context.Context, method, url string, body, answer any) (owner string, err error) {
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
	req, err := http.NewRequestWithContext(ctx, method, url, payload)
	if err != nil {
		return "", fmt.Errorf("--cloud: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
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
		return "", fmt.Errorf("%s answered %s: is it a weir-cloud?", url, res.Status)
	}
	if res.StatusCode == http.StatusMisdirectedRequest && e.Owner != "" {
		return e.Owner, nil
	}
	return "", errors.New(e.Error)
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
