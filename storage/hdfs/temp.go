package hdfs

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"
)

func (b *Bucket) tempDir() string { return b.root + "/.tmp" }

// tempName is a name that was never used and is never used again.
func (b *Bucket) tempName() string { return b.tempDir() + "/" + rand.Text() }

// dropTime is how long drop waits for the namenode.
const dropTime = 5 * time.Second

// drop deletes a temporary file, also when the caller's time is over, and
// reports whether it was there and is not any more.
func (b *Bucket) drop(ctx context.Context, temp string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	removed, err := b.remove(ctx, temp)
	return err == nil && removed
}

// tempLife is the age from which a temporary file is taken for a dead writer's.
const tempLife = 24 * time.Hour

// clean removes temporary files whose writers are dead, judging by their age.
// What it judges wrongly does no harm: the namenode does one thing after the
// other, so either the writer's rename came first, and under the temporary name
// there is nothing to delete, or it does not find its file and has done nothing.
// What cannot be deleted stays until the next start.
func (b *Bucket) clean(ctx context.Context) error {
	now, err := b.now(ctx)
	if err != nil {
		return err
	}
	for last, more := "", true; more; {
		var files []fileStatus
		if files, more, err = b.names(ctx, ".tmp/", last); err != nil {
			return err
		}
		for _, file := range files {
			last = file.PathSuffix
			if file.Type == "FILE" && now.Sub(time.UnixMilli(file.ModificationTime)) > tempLife {
				b.drop(ctx, b.tempDir()+"/"+last)
			}
		}
	}
	return nil
}

// now is the time by the clock of the namenode, which also dates the files.
func (b *Bucket) now(ctx context.Context) (time.Time, error) {
	resp, err := b.client.ask(ctx, http.MethodGet, b.root, "GETFILESTATUS", nil)
	if err != nil {
		return time.Time{}, err
	}
	defer drain(resp)
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the namenode's clock: %w", err)
	}
	return now, nil
}
