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

// drop deletes a temporary file, even if the caller's time is over. It reports whether
// the file was there and is gone now.
func (b *Bucket) drop(ctx context.Context, temp string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	removed, err := b.remove(ctx, temp)
	return err == nil && removed
}

// tempLife is the age from which a temporary file counts as left by a dead writer.
const tempLife = 24 * time.Hour

// clean removes temporary files whose writers are dead, judged by their age. A wrong
// judgement does no harm: the namenode executes one request after the other, so either
// the writer's rename came first, and there is nothing to delete under the temporary
// name, or the rename does not find its file and does nothing. What cannot be deleted
// stays until the next start.
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
