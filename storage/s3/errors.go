package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/weirmq/weir/storage"
)

// status returns the HTTP status that err carries, or 0.
func status(err error) int {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// changed is the error of a request that changes something. It depends on what the
// store may have done before the answer:
//
//	412, 304               the name is taken (304: some stores answer a PUT as if it were a GET)
//	other 4xx              refused: nothing happened (403: fs.ErrPermission)
//	408, 5xx, any other    unknown. 503 SlowDown too: MinIO answers so when only some disks took the object
//	could not connect      nothing happened
//	anything else          unknown: the request may have arrived
func changed(err error) error {
	code := status(err)
	switch {
	case code == http.StatusPreconditionFailed, code == http.StatusNotModified:
		return fmt.Errorf("%w: %w", storage.ErrExists, err)
	case code == http.StatusForbidden:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout:
		return err
	case code == 0 && unsent(err):
		return err
	}
	return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
}

// unsent reports whether err came before there was a connection.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// read is the error of a request that reads.
func read(err error) error {
	var answer minio.ErrorResponse
	switch {
	case errors.As(err, &answer) && answer.Code == minio.NoSuchKey:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}
