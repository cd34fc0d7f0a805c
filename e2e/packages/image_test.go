package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// loaded is an image as a container runtime reads it: by digests, from the index on.
type loaded struct {
	t     *testing.T
	files map[string][]byte
}

func load(t *testing.T, path string) loaded {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := loaded{t, make(map[string][]byte)}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return l
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// blob returns what a descriptor is of, and checks it.
func (l loaded) blob(d v1.Descriptor, kind string) []byte {
	l.t.Helper()
	body, ok := l.files[blobPath(d)]
	if !ok || d.MediaType != kind || int64(len(body)) != d.Size || digest.FromBytes(body) != d.Digest {
		l.t.Fatalf("the blob of %+v is not there, or another", d)
	}
	return body
}

func (l loaded) json(body []byte, v any) {
	l.t.Helper()
	if err := json.Unmarshal(body, v); err != nil {
		l.t.Fatalf("%v: %s", err, body)
	}
}

// image follows the index to the configuration and the files.
func (l loaded) image() (v1.Image, []byte) {
	l.t.Helper()
	var layout v1.ImageLayout
	l.json(l.files[v1.ImageLayoutFile], &layout)
	var index v1.Index
	l.json(l.files[v1.ImageIndexFile], &index)
	if layout.Version != "1.0.0" || len(index.Manifests) != 1 {
		l.t.Fatalf("%+v %+v", layout, index)
	}
	var manifest v1.Manifest
	l.json(l.blob(index.Manifests[0], v1.MediaTypeImageManifest), &manifest)
	var config v1.Image
	l.json(l.blob(manifest.Config, v1.MediaTypeImageConfig), &config)
	if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 {
		l.t.Fatalf("%d layers, %d of them in the configuration", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	z, err := gzip.NewReader(bytes.NewReader(l.blob(manifest.Layers[0], v1.MediaTypeImageLayerGzip)))
	if err != nil {
		l.t.Fatal(err)
	}
	layer, err := io.ReadAll(z)
	if err != nil || digest.FromBytes(layer) != config.RootFS.DiffIDs[0] {
		l.t.Fatalf("the layer is not what the configuration says: %v", err)
	}
	var old []struct {
		Config           string
		RepoTags, Layers []string
	}
	l.json(l.files["manifest.json"], &old)
	if len(old) != 1 || old[0].Config != blobPath(manifest.Config) || old[0].Layers[0] != blobPath(manifest.Layers[0]) || len(old[0].RepoTags) != 1 {
		l.t.Errorf("an older docker would load another image: %+v", old)
	}
	return config, layer
}

// unpack writes a layer into a folder.
func unpack(t *testing.T, layer []byte) string {
	t.Helper()
	root := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, fs.FileMode(h.Mode))
		} else {
			var body []byte
			if body, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, body, fs.FileMode(h.Mode))
			}
		}
		if err == nil {
			err = os.Chown(path, h.Uid, h.Gid)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestImages: an image is what a runtime expects, has nothing but the programs and what
// they need, and its program starts from it as a user who is not root.
func TestImages(t *testing.T) {
	if os.Getuid() != 0 {
		unable(t, "root is needed to start a program from the files of an image")
	}
	j := builder(t, runtime.GOARCH, newer)
	// The program itself, as make image runs it.
	program := exec.Command("go", "run", ".", "image", "--root", j.root, "--bin", j.bin, "--arch", j.arch, "--of", j.version, "--out", j.out)
	program.Stderr = t.Output()
	said, err := program.Output()
	paths := strings.Fields(string(said))
	if err != nil || len(paths) != len(images) {
		t.Fatalf("%q: %v", said, err)
	}
	for i, path := range paths {
		t.Run(images[i].name, func(t *testing.T) {
			if want := images[i].name + "_" + newerDebian + "_" + runtime.GOARCH; !strings.HasPrefix(filepath.Base(path), want) {
				t.Errorf("%s is not named %s", path, want)
			}
			config, layer := load(t, path).image()
			c := config.Config
			if c.User != "65532:65532" || len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/"+images[i].name || config.Architecture != runtime.GOARCH || config.OS != "linux" {
				t.Errorf("%+v %+v", config.Platform, c)
			}
			if _, ok := c.Volumes["/data"]; !ok || c.Labels[v1.AnnotationVersion] != newerDebian {
				t.Errorf("volumes %v, labels %v", c.Volumes, c.Labels)
			}
			root := unpack(t, layer)
			if authorities, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")); err != nil || !bytes.Contains(authorities, []byte("BEGIN CERTIFICATE")) {
				t.Errorf("the authorities of certificates: %v", err)
			}
			start(t, root, c)
		})
	}
}

// start runs the program of an image as a container would, until it is ready.
func start(t *testing.T, root string, c v1.ImageConfig) {
	t.Helper()
	args := []string{"--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"}
	if c.Entrypoint[0] == "/weir-cloud" {
		args = []string{"--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--sync", "127.0.0.1:0"}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(c.Entrypoint[0], args...)
	cmd.Env, cmd.Dir, cmd.Stderr = c.Env, c.WorkingDir, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: containerUser, Gid: containerUser}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		body, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	within(t, 30*time.Second, "it is ready", func() bool { return strings.Contains(said(), " msg=ready ") }, said)
	if _, err := os.Stat(filepath.Join(root, "weirctl")); err == nil { // beside weir-cloud
		ctl := exec.Command("/weirctl", "topics", "--cloud", "http://"+addressIn(t, said(), "http"))
		ctl.Env, ctl.Dir, ctl.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
		if out, err := ctl.CombinedOutput(); err != nil {
			t.Errorf("weirctl: %v\n%s", err, out)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said())
	}
	if token, err := os.Stat(filepath.Join(root, "data", "admin-token")); err != nil || token.Sys().(*syscall.Stat_t).Uid != containerUser {
		t.Errorf("it has not kept its data in /data: %v", err)
	}
}

// within waits for a condition.
func within(t *testing.T, limit time.Duration, what string, ok func() bool, said func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v\n%s", what, limit, said())
		}
		<-tick.C
	}
}
