package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
)

func upgradeVerb() verb {
	return verb{
		name: "upgrade", usage: "BUCKET [flags]", offline: true,
		summary: "raise the format level of a bucket to the newest that this program knows",
		notes: "BUCKET is the URL that weir-cloud got as --bucket. Do it when all nodes run the new version: from then\n" +
			"on an older weir-cloud refuses to lead, and says which version is needed. The next owner writes at the\n" +
			"new level. There is no way back.",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return errors.New("upgrade takes the URL of one bucket, such as file:./data/cloud/bucket")
			}
			return c.upgrade(ctx, c.args[0])
		},
	}
}

// upgraded is the answer of weirctl upgrade -o json.
type upgraded struct {
	Before int `json:"before"`
	Level  int `json:"level"`
}

func (c *call) upgrade(ctx context.Context, url string) error {
	bucket, err := existing(ctx, url)
	if err != nil {
		return err
	}
	defer storage.Close(bucket)
	before, err := identity.Upgrade(ctx, bucket, identity.Level, configs.Version())
	if err != nil {
		return err
	}
	done, err := c.print(upgraded{before, max(before, identity.Level)})
	if done || err != nil {
		return err
	}
	if before >= identity.Level {
		fmt.Fprintf(c.stdout, "the bucket is at format level %d, the newest that this program knows\n", before)
		return nil
	}
	fmt.Fprintf(c.stdout, "format level raised from %d to %d\n", before, identity.Level)
	return nil
}
