package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoHistory: the commit is not in the repository, for example in a copy without
// history.
var ErrNoHistory = errors.New("no git history")

// Earlier builds the binaries of a commit, in a temporary git worktree, and returns the
// directory that they are in: Start takes the path of one of them as well as a name.
// They are kept in dir, and built once.
//
// Errors: ErrNoHistory, and those of git and go.
func Earlier(dir, commit string, names ...string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	if err := git(root, "cat-file", "-e", commit+"^{commit}"); err != nil {
		return "", fmt.Errorf("%w: commit %s is not in %s", ErrNoHistory, commit, root)
	}
	out := filepath.Join(dir, "earlier-"+commit)
	tree := filepath.Join(dir, "tree-"+commit)
	if err := git(root, "worktree", "add", "--detach", "--force", tree, commit); err != nil {
		return "", err
	}
	defer func() { _ = git(root, "worktree", "remove", "--force", tree) }()
	for _, name := range names {
		build := exec.Command("go", "build", "-o", filepath.Join(out, filepath.Base(name)), "./"+name)
		build.Dir = tree
		if said, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s at %s: %w\n%s", name, commit, err, said)
		}
	}
	return out, nil
}

func git(root string, args ...string) error {
	if said, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w\n%s", args[0], err, said)
	}
	return nil
}

// repository returns the top of the repository.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the repository: no go.mod above")
		}
	}
}
