package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debNames are the packages, each of which has a file in configs/packages.
var debNames = []string{"weir-cloud", "weir-edge", "weir-tools"}

// debs makes the packages and returns their paths.
func (j job) debs() ([]string, error) {
	version, err := debianVersion(j.version)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "weir-deb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out, err := filepath.Abs(j.out)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, name := range debNames {
		changelog := filepath.Join(dir, name+".gz")
		if err := j.writeChangelog(changelog, name, version); err != nil {
			return made, fmt.Errorf("write the changelog of %s: %w", name, err)
		}
		path := filepath.Join(out, fmt.Sprintf("%s_%s_%s.deb", name, version, platforms[j.arch].debian))
		cmd := exec.Command(j.nfpm, "package", "--packager", "deb", "--target", path,
			"--config", filepath.Join("configs", "packages", name+".yaml"))
		cmd.Dir = j.root
		cmd.Env = append(os.Environ(), "VERSION="+version, "ARCH="+j.arch, "BIN="+j.abs(j.bin), "CHANGELOG="+changelog,
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", j.date.Unix()))
		if said, err := cmd.CombinedOutput(); err != nil {
			return made, fmt.Errorf("package %s: %w\n%s", name, err, said)
		}
		made = append(made, path)
	}
	return made, nil
}

// writeChangelog writes the changelog that Debian requires of every package.
func (j job) writeChangelog(path, name, version string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	lines := []string{
		fmt.Sprintf("%s (%s) unstable; urgency=medium", name, version), "",
		"  * Version " + j.version + ". What changed is in the last section of Weir's README.", "",
		" -- Weir maintainers <maintainers@weirmq.example>  " + j.date.Format("Mon, 02 Jan 2006 15:04:05 -0700"), "",
	}
	if _, err := z.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return err
	}
	return z.Close()
}
