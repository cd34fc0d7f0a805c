package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // go-digest needs it, by name
	"encoding/json"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive is an OCI image layout in a tar file: blobs by their digest, and an index. A
// manifest as docker save writes it lies beside, so that every version of docker loads it.
type archive struct {
	w    *tar.Writer
	date time.Time
}

// writeArchive writes an image of one layer, which is given as a tar. The file is whole
// or not there.
func writeArchive(to, tag string, config v1.Image, layer []byte, date time.Time) (err error) {
	temp := to + ".new"
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	a := archive{tar.NewWriter(f), date}
	err = errors.Join(a.write(tag, config, layer), a.w.Close(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, to)
}

func (a archive) write(tag string, config v1.Image, layer []byte) error {
	packed, err := zip(layer)
	if err != nil {
		return err
	}
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}}
	config.History = []v1.History{{Created: &a.date, CreatedBy: "weir: make image"}}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := a.w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: a.date}); err != nil {
			return err
		}
	}
	layerAt, err := a.blob(v1.MediaTypeImageLayerGzip, packed)
	if err != nil {
		return err
	}
	configAt, err := a.json(v1.MediaTypeImageConfig, config)
	if err != nil {
		return err
	}
	manifestAt, err := a.json(v1.MediaTypeImageManifest, v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest, Config: configAt, Layers: []v1.Descriptor{layerAt}})
	if err != nil {
		return err
	}
	manifestAt.Platform = &config.Platform
	_, version, _ := strings.Cut(tag, ":")
	manifestAt.Annotations = map[string]string{v1.AnnotationRefName: version, "io.containerd.image.name": "docker.io/library/" + tag}
	for _, f := range []struct {
		name string
		v    any
	}{
		{v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}},
		{v1.ImageIndexFile, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
			Manifests: []v1.Descriptor{manifestAt}}},
		{"manifest.json", []map[string]any{{"Config": blobPath(configAt), "RepoTags": []string{tag}, "Layers": []string{blobPath(layerAt)}}}},
	} {
		body, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := a.file(f.name, body); err != nil {
			return err
		}
	}
	return nil
}

func (a archive) json(kind string, v any) (v1.Descriptor, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return a.blob(kind, body)
}

func (a archive) blob(kind string, body []byte) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: kind, Digest: digest.FromBytes(body), Size: int64(len(body))}
	return d, a.file(blobPath(d), body)
}

func blobPath(d v1.Descriptor) string {
	return path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
}

func (a archive) file(name string, body []byte) error {
	if err := a.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: a.date}); err != nil {
		return err
	}
	_, err := a.w.Write(body)
	return err
}

func zip(body []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
