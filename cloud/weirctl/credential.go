package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/configs"
)

// localData returns the default data directories in which a node on this machine keeps
// its credential: that of a package, and that of a node that runs from a folder.
func localData() []string { return []string{"/var/lib/weir-cloud", "./data/cloud"} }

// tokenVariable holds a credential.
const tokenVariable = "WEIRCTL_TOKEN"

// credential is a token, and where it was found.
type credential struct{ token, from string }

// variable is a variable of the environment.
func (c *call) variable(name string) string {
	for _, entry := range c.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// credentialFor finds the credential for a node: that of --data, of the variable, of
// weirctl login, or of a node on this machine. An explicit one wins over one that is
// found. If there is none, the request has no credential.
func (c *call) credentialFor(base *url.URL) (credential, error) {
	if c.data != "" {
		path := filepath.Join(c.data, admin.File)
		token, err := admin.ReadToken(path)
		if err != nil {
			return credential{}, fmt.Errorf("--data: %w", readable(path, err))
		}
		return credential{token, path}, nil
	}
	if text := c.variable(tokenVariable); text != "" {
		token, err := admin.ParseToken(text)
		if err != nil {
			return credential{}, fmt.Errorf("%s: %w", tokenVariable, err)
		}
		return credential{token, tokenVariable}, nil
	}
	saved, err := c.saved()
	if err != nil {
		return credential{}, err
	}
	if token := saved[key(base)]; token != "" {
		return credential{token, "weirctl login"}, nil
	}
	if !loopback(base) {
		return credential{}, nil
	}
	for _, dir := range c.dirs {
		path := filepath.Join(dir, admin.File)
		token, err := admin.ReadToken(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return credential{}, readable(path, err)
		}
		return credential{token, path}, nil
	}
	return credential{}, nil
}

// readable explains how to get access to a file that may not be read.
func readable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run weirctl as a member of the group of that file, or log in with a credential of your own (weirctl admin add, weirctl login)", err)
	}
	return err
}

// loopback reports whether a URL leads to this machine only.
func loopback(u *url.URL) bool {
	return configs.Loopback(u.Hostname()+":"+cmp.Or(u.Port(), "80")) ||
		configs.Loopback("["+u.Hostname()+"]:"+cmp.Or(u.Port(), "80"))
}

// key is a node's key among the saved credentials.
func key(u *url.URL) string { return u.Scheme + "://" + strings.ToLower(u.Host) }

// savedPath is the file of weirctl login.
func (c *call) savedPath() (string, error) {
	if dir := c.variable("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "weir", "credentials.json"), nil
	}
	if home := c.variable("HOME"); home != "" {
		return filepath.Join(home, ".config", "weir", "credentials.json"), nil
	}
	return "", errors.New("there is no home directory to store a credential in: set HOME, or set " + tokenVariable)
}

// saved returns the credentials of weirctl login, by node.
func (c *call) saved() (map[string]string, error) {
	path, err := c.savedPath()
	if err != nil {
		return nil, nil // there is no place for the file, so there are none
	}
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all map[string]string
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read the credentials that weirctl login stored: %s: %w", path, err)
	}
	return all, nil
}

// save keeps a credential for a node, or forgets it when the token is empty. Only
// the user can read the file.
func (c *call) save(node, token string) error {
	path, err := c.savedPath()
	if err != nil {
		return err
	}
	all, err := c.saved()
	if err != nil {
		return err
	}
	if all == nil {
		all = make(map[string]string)
	}
	if all[node] = token; token == "" {
		delete(all, node)
	}
	body, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("store the credential: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "credentials") // 0600
	if err != nil {
		return fmt.Errorf("store the credential: %w", err)
	}
	_, err = f.Write(append(body, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("store the credential: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
