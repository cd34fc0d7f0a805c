package mem_test

import (
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

func TestBucket(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return mem.New() })
}
