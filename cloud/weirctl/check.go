package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/sync/join"
)

func checkVerb() verb {
	return verb{
		name: "check", usage: "BUCKET [flags]", offline: true,
		summary: "check a whole bucket, or repair one",
		notes: "BUCKET is the URL that weir-cloud got as --bucket, such as file:./data/cloud/bucket. Nothing is\n" +
			"written, and nodes may run meanwhile. It reads the whole log, and finds what would keep a node from leading\n" +
			"and what readers could not read. It ends with exit code 1 if it finds a problem, with 2 if it could not read\neverything.\n\n" +
			"--repair changes a bucket with problems so that a node can lead it again, without what is missing or damaged,\n" +
			"and says what that is. It is the last resort: put missing objects back from a copy if there is one. Stop all\n" +
			"nodes, make a copy of the bucket, and repair the copy. Records that cannot be read are given up: consumers\n" +
			"continue behind them, and topic weir.lost says which offsets of which topic they had; in a cluster of several\n" +
			"shards only the output says it. Records of topics whose names are lost are in topics recovered.ID. If the CA\n" +
			"is lost, gateways must join again.",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.BoolVar(&c.repair, "repair", false, "repair the bucket: give up what is missing or damaged")
			fs.StringVar(&c.secretFile, "secret-file", "", "--repair: the `file` that weir-cloud got as --secret-file; needed if the CA is lost")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return errors.New("check takes the URL of one bucket, such as file:./data/cloud/bucket")
			}
			if c.repair {
				return c.repairBucket(ctx, c.args[0])
			}
			return c.check(ctx, c.args[0])
		},
	}
}

// existing opens a bucket that must exist.
func existing(ctx context.Context, url string) (storage.Bucket, error) {
	if folder, ok := strings.CutPrefix(url, "file:"); ok { // opening would create the folder
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
	r, err := examine(ctx, bucket, problems)
	if err != nil {
		return err
	}
	return c.report(r)
}

// examine finds the problems of a bucket, and writes them to w as they are found.
func examine(ctx context.Context, bucket storage.Bucket, w io.Writer) (check.Report, error) {
	r, err := check.Check(ctx, bucket, w)
	if err != nil {
		return r, err
	}
	if err := fleet.CheckAuthority(ctx, bucket); err != nil {
		if !errors.Is(err, join.ErrCorrupt) && !errors.Is(err, storage.ErrMissing) && !errors.Is(err, storage.ErrDamaged) {
			return r, err
		}
		r.Problems = append(r.Problems, err.Error())
		fmt.Fprintln(w, err)
	}
	err = examineTransactions(ctx, bucket, &r, w)
	return r, err
}

// examineTransactions finds what is wrong between the shards of a cluster. It needs sound
// logs.
func examineTransactions(ctx context.Context, bucket storage.Bucket, r *check.Report, w io.Writer) error {
	if len(r.Problems) > 0 || r.Shards < 2 {
		return nil
	}
	problems, err := txn.CheckShards(ctx, bucket, int(r.Shards))
	for _, p := range problems {
		fmt.Fprintln(w, p)
	}
	r.Problems = append(r.Problems, problems...)
	return err
}

// report prints what was found.
func (c *call) report(r check.Report) error {
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
		if r.Orphans > 0 && len(r.Problems) == 0 {
			fmt.Fprintf(c.stdout, "%d segments are not part of the log: they were stored just before a crash, and the next owner deletes them\n", r.Orphans)
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
