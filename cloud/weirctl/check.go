package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/sync/join"
)

func checkVerb() verb {
	return verb{
		name: "check", usage: "BUCKET [flags]", offline: true,
		summary: "prove from the bytes in a bucket that the log is sound",
		notes: "BUCKET is the URL that weir-cloud got as --bucket, such as file:./data/cloud/bucket. Nothing is\n" +
			"written, and it may run beside a weir-cloud. It ends with 1 if it finds a problem, with 2 if it\ncould not read everything.",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return errors.New("check takes the URL of one bucket, such as file:./data/cloud/bucket")
			}
			return c.check(ctx, c.args[0])
		},
	}
}

// existing opens a bucket that is there.
func existing(ctx context.Context, url string) (storage.Bucket, error) {
	if folder, ok := strings.CutPrefix(url, "file:"); ok { // which opening would create
		if _, err := os.Stat(strings.TrimPrefix(folder, "//")); err != nil {
			return nil, fmt.Errorf("open the bucket: %w", err)
		}
	}
	return open.Open(ctx, url)
}

func (c *call) check(ctx context.Context, url string) error {
	bucket, err := existing(ctx, url)
	if err != nil {
		return err
	}
	defer storage.Close(bucket)
	problems := c.stdout
	if c.json {
		problems = io.Discard
	}
	r, err := commitlog.Check(ctx, bucket, problems)
	if err != nil {
		return err
	}
	if err := fleet.CheckAuthority(ctx, bucket); err != nil {
		if !errors.Is(err, join.ErrCorrupt) && !errors.Is(err, storage.ErrMissing) && !errors.Is(err, storage.ErrDamaged) {
			return err
		}
		r.Problems = append(r.Problems, err.Error())
		fmt.Fprintln(problems, err)
	}
	done, err := c.print(r)
	if err != nil {
		return err
	}
	if !done {
		behind := ""
		if r.Checkpoint != "" {
			behind = " behind the checkpoint " + r.Checkpoint
		}
		fmt.Fprintf(c.stdout, "read %d slots%s and %d segments: %d records (%d bytes) of %d topics with %d partitions, %d streams, in %v\n",
			r.Slots, behind, r.Segments, r.Records, r.Bytes, r.Topics, r.Partitions, r.Streams, r.Took.Round(time.Millisecond))
		if r.Orphans > 0 {
			fmt.Fprintf(c.stdout, "%d segments belong to nobody: they were stored just before a crash, and the next owner deletes them\n", r.Orphans)
		}
		if len(r.Problems) == 0 {
			fmt.Fprintln(c.stdout, "no problem found")
		} else {
			fmt.Fprintf(c.stdout, "%d problems found\n", len(r.Problems))
		}
	}
	if len(r.Problems) > 0 {
		return errProblems
	}
	return nil
}
