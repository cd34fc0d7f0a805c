package main

import (
	"fmt"
	"regexp"
	"strings"
)

// described is what git describe --tags --always --dirty says: a tag, how many commits
// came after it, the commit; or a commit alone.
var (
	described = regexp.MustCompile(`^v?([0-9][0-9A-Za-z.]*)(?:-((?:alpha|beta|rc|pre)[0-9A-Za-z.]*))?(?:-([0-9]+)-g([0-9a-f]+))?(-dirty)?$`)
	commit    = regexp.MustCompile(`^(?:([0-9]+)-g)?([0-9a-f]{7,40})(-dirty)?$`)
)

// debianVersion turns what git describe says into a version of Debian with the same
// order: a release candidate is before its release, what came after a tag is behind it
// and before the next. Before the first tag it is 0.0.0 and the number of commits.
func debianVersion(version string) (string, error) {
	if m := commit.FindStringSubmatch(version); m != nil {
		number := m[1]
		if number == "" {
			number = "0"
		}
		return "0.0.0+" + number + ".g" + m[2] + dirty(m[3]), nil
	}
	m := described.FindStringSubmatch(version)
	if m == nil {
		return "", fmt.Errorf("version %q is not what git describe says of a tag like v1.2.3 or v1.2.3-rc1", version)
	}
	v := m[1]
	if m[2] != "" {
		v += "~" + m[2]
	}
	if m[3] != "" {
		v += "+" + m[3] + ".g" + m[4]
	}
	return v + dirty(m[5]), nil
}

func dirty(mark string) string {
	if mark == "" {
		return ""
	}
	return "+dirty"
}

// imageTag is a version as the name of an image may have it.
func imageTag(debian string) string {
	return strings.NewReplacer("+", "-", "~", "-").Replace(debian)
}
