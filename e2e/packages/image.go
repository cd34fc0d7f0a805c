package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerUser runs the programs of an image: nobody's, and nothing else's.
const containerUser = 65532

// image is what one image has.
type image struct {
	name     string
	title    string
	binaries []string // the first is started
	ports    []string
	data     string // the variable that names the folder of data
}

var images = []image{
	{"weir-cloud", "Weir cloud node", []string{"weir-cloud", "weirctl"}, []string{"7400/udp", "7401/tcp", "8080/tcp", "9092/tcp"}, "WEIR_CLOUD_DATA"},
	{"weir-edge", "Weir gateway", []string{"weir-edge"}, []string{"1883/tcp", "8081/tcp"}, "WEIR_EDGE_DATA"},
}

// images makes a file per image and returns their paths.
func (j job) images() ([]string, error) {
	version, err := debianVersion(j.version)
	if err != nil {
		return nil, err
	}
	authorities, err := certificateAuthorities()
	if err != nil {
		return nil, err
	}
	var made []string
	for _, i := range images {
		files, err := j.files(i, authorities)
		if err != nil {
			return made, err
		}
		layer, err := layerOf(files, j.date)
		if err != nil {
			return made, fmt.Errorf("pack the files of %s: %w", i.name, err)
		}
		p := platforms[j.arch]
		path := filepath.Join(j.out, fmt.Sprintf("%s_%s_%s.tar", i.name, version, p.file))
		if err := writeArchive(path, i.name+":"+imageTag(version), i.config(p, version, j.date), layer, j.date); err != nil {
			return made, fmt.Errorf("write the image of %s: %w", i.name, err)
		}
		made = append(made, path)
	}
	return made, nil
}

// config is how a container of the image runs.
func (i image) config(p platform, version string, date time.Time) v1.Image {
	user := fmt.Sprintf("%d:%d", containerUser, containerUser)
	c := v1.Image{Created: &date, Platform: v1.Platform{OS: "linux", Architecture: p.arch, Variant: p.variant}}
	c.Config = v1.ImageConfig{
		User: user, Entrypoint: []string{"/" + i.binaries[0]}, WorkingDir: "/data",
		Env:     []string{"PATH=/", i.data + "=/data", "WEIRCTL_DATA=/data"},
		Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: make(map[string]struct{}), StopSignal: "SIGTERM",
		Labels: map[string]string{v1.AnnotationTitle: i.title, v1.AnnotationVersion: version,
			v1.AnnotationSource: "https://github.com/weirmq/weir", v1.AnnotationLicenses: "Apache-2.0"},
	}
	for _, port := range i.ports {
		c.Config.ExposedPorts[port] = struct{}{}
	}
	return c
}

// file is a file of an image, a folder if it has no body.
type file struct {
	body []byte
	mode fs.FileMode
	own  bool // of the user of the image, not of root
}

// files are all files of an image, by path.
func (j job) files(i image, authorities []byte) (map[string]file, error) {
	id := fmt.Sprintf("%d:%d", containerUser, containerUser)
	files := map[string]file{
		"data/":                             {mode: 0o750, own: true},
		"etc/":                              {mode: 0o755},
		"etc/passwd":                        {body: []byte("root:x:0:0:root:/:/sbin/nologin\nweir:x:" + id + ":Weir:/data:/sbin/nologin\n"), mode: 0o644},
		"etc/group":                         {body: fmt.Appendf(nil, "root:x:0:\nweir:x:%d:\n", containerUser), mode: 0o644},
		"etc/weir/":                         {mode: 0o755},
		"etc/ssl/":                          {mode: 0o755},
		"etc/ssl/certs/":                    {mode: 0o755},
		"etc/ssl/certs/ca-certificates.crt": {body: authorities, mode: 0o644},
	}
	for _, name := range i.binaries {
		body, err := os.ReadFile(filepath.Join(j.abs(j.bin), name))
		if err != nil {
			return nil, err
		}
		files[name] = file{body: body, mode: 0o755}
	}
	return files, nil
}

// certificateAuthorities are those that this machine trusts. A node verifies an S3
// endpoint with them.
func certificateAuthorities() ([]byte, error) {
	for _, path := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		body, err := os.ReadFile(path)
		if err == nil && len(body) > 0 {
			return body, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errors.New("this machine has no certificates of authorities to put into the image: install ca-certificates")
}

// layerOf packs files; the same files give the same bytes.
func layerOf(files map[string]file, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		h := &tar.Header{Name: path, Mode: int64(f.mode), ModTime: date, Typeflag: tar.TypeReg, Size: int64(len(f.body))}
		if path[len(path)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if f.own {
			h.Uid, h.Gid = containerUser, containerUser
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
