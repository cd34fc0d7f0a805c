// Command packages makes what Weir is installed from: Debian packages and container
// images, out of the binaries of one platform. It is what `make deb` and `make image` run.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// platforms are those that packages and images are made for, by the names of nfpm.
var platforms = map[string]platform{
	"amd64": {debian: "amd64", file: "amd64", arch: "amd64"},
	"arm64": {debian: "arm64", file: "arm64", arch: "arm64", variant: "v8"},
	"arm6":  {debian: "armhf", file: "armv6", arch: "arm", variant: "v6"},
}

// platform is one platform, as others name it.
type platform struct {
	debian        string
	file          string // in the name of an image's file
	arch, variant string // of an image
}

// job is what one run makes.
type job struct {
	root    string // of the repository
	bin     string // directory of the binaries, below root or absolute
	arch    string // a key of platforms
	version string // as git describe has it
	date    time.Time
	out     string // directory
	nfpm    string // path of nfpm
}

func run(args []string, stdout, stderr io.Writer) int {
	err := makeAll(args, stdout)
	if err != nil && !errors.Is(err, configs.ErrDone) {
		fmt.Fprintln(stderr, "packages:", err)
		return 1
	}
	return 0
}

func makeAll(args []string, stdout io.Writer) error {
	var j job
	fs := pflag.NewFlagSet("packages", pflag.ContinueOnError)
	fs.StringVar(&j.root, "root", ".", "`directory` of the repository")
	fs.StringVar(&j.bin, "bin", "bin", "`directory` of the binaries")
	fs.StringVar(&j.arch, "arch", "amd64", "`name` of the platform: amd64, arm64 or arm6")
	fs.StringVar(&j.version, "of", "", "`version` of the binaries, as git describe has it")
	fs.StringVar(&j.out, "out", "bin", "`directory` for what is made")
	fs.StringVar(&j.nfpm, "nfpm", "nfpm", "`path` of nfpm, for packages")
	date := fs.Int64("date", 0, "`seconds` since 1970: the time of the commit, which all files get")
	p := configs.Program{Name: "packages", Usage: "packages deb|image [flags]",
		Summary: "packages makes Debian packages, or images for containers, of the binaries of one platform."}
	if err := configs.Load(p, fs, args, nil, stdout); err != nil {
		return err
	}
	if _, ok := platforms[j.arch]; !ok {
		return fmt.Errorf("--arch %q is none of amd64, arm64, arm6", j.arch)
	}
	j.date = time.Unix(*date, 0).UTC()
	var err error
	if j.root, err = filepath.Abs(j.root); err != nil {
		return err
	}
	if err := os.MkdirAll(j.out, 0o755); err != nil {
		return err
	}
	var made []string
	switch fs.Arg(0) {
	case "deb":
		made, err = j.debs()
	case "image":
		made, err = j.images()
	default:
		return fmt.Errorf("%q is neither deb nor image", fs.Arg(0))
	}
	for _, path := range made {
		fmt.Fprintln(stdout, path)
	}
	return err
}

// abs is a path that is given from the root of the repository.
func (j job) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(j.root, path)
}
