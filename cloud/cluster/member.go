package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/storage"
)

// memberPrefix is where the member objects are: see FORMAT.md.
const memberPrefix = "member/"

// maxMemberInfo bounds the body of a member object, in bytes.
const maxMemberInfo = 64 << 10

// memberKey is the name of a member object.
func memberKey(id int32, number uint64) string {
	return fmt.Sprintf("%s%08x/%020d", memberPrefix, uint32(id), number)
}

// parseMember returns what memberKey was made of.
func parseMember(key string) (id int32, number uint64, ok bool) {
	a, b, _ := strings.Cut(strings.TrimPrefix(key, memberPrefix), "/")
	node, err1 := strconv.ParseUint(a, 16, 32)
	number, err2 := strconv.ParseUint(b, 10, 64)
	id = int32(node)
	return id, number, err1 == nil && err2 == nil && key == memberKey(id, number)
}

// register creates this node's member object. Its number is higher than those of all
// before it, as far as the others, which are in the bucket, and the clock show.
func register(ctx context.Context, b storage.Bucket, self Node, others []string) (number uint64, err error) {
	for _, key := range others {
		if id, n, ok := parseMember(key); ok && id == self.ID {
			number = max(number, n)
		}
	}
	for number = max(number, uint64(time.Now().UnixMicro())); ; {
		number++
		err := enter(ctx, b, self, number)
		if !errors.Is(err, storage.ErrExists) {
			return number, err
		}
		// Taken by an attempt whose answer was lost, or by another node of this name: what
		// is left over is deleted later.
	}
}

// enter creates the member object of that number.
func enter(ctx context.Context, b storage.Bucket, self Node, number uint64) error {
	self.Member, self.Handed, self.Takeovers = number, false, nil
	body, err := self.Info(AddressesLevel)
	if err != nil {
		return err
	}
	if err := b.Create(ctx, memberKey(self.ID, number), body); err != nil {
		return fmt.Errorf("create this node's member object: %w", err)
	}
	return nil
}

// listMembers returns the keys of all member objects.
func listMembers(ctx context.Context, b storage.Bucket) ([]string, error) {
	const page = 1000
	var all []string
	for after := ""; ; {
		keys, err := b.List(ctx, memberPrefix, after, page)
		if err != nil {
			return nil, fmt.Errorf("list the members: %w", err)
		}
		if all = append(all, keys...); len(keys) < page {
			return all, nil
		}
		after = keys[len(keys)-1]
	}
}

// Members lists the nodes that have member objects, those that are gone for a short while
// included, in any order. Objects that cannot be read are left out.
func Members(ctx context.Context, b storage.Bucket) ([]Node, error) {
	keys, err := listMembers(ctx, b)
	if err != nil {
		return nil, err
	}
	var all []Node
	for id, number := range newestMembers(keys) {
		n, err := readMember(ctx, b, memberKey(id, number))
		if err == nil {
			all = append(all, n)
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// readMember returns the node that a member object describes. Errors: errMember,
// fs.ErrNotExist, and those of the bucket.
func readMember(ctx context.Context, b storage.Bucket, key string) (Node, error) {
	id, number, ok := parseMember(key)
	if !ok {
		return Node{}, fmt.Errorf("%w: %s is not the name of one", errMember, key)
	}
	body, err := b.Get(ctx, key, 0, maxMemberInfo)
	if err != nil {
		return Node{}, fmt.Errorf("read %s: %w", key, err)
	}
	n, err := ReadInfo(body)
	if err != nil {
		return Node{}, fmt.Errorf("%w: %s: %w", errMember, key, err)
	}
	if n.Name == "" || n.ID != id || n.Member != number {
		return Node{}, fmt.Errorf("%w: %s describes node %q, number %d", errMember, key, n.Name, n.Member)
	}
	return n, nil
}

// errMember means that an object below memberPrefix is not a member object.
var errMember = errors.New("not a member object")

// hasLeft reports whether the process that made a claim has deleted its member object,
// which it does when it ends in good order.
func hasLeft(ctx context.Context, b storage.Bucket, author Node) (bool, error) {
	if author.Member == 0 {
		return false, nil // a version that has none
	}
	_, err := b.Get(ctx, memberKey(author.ID, author.Member), 0, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
