package hdfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/weirmq/weir/storage"
)

// The exceptions that matter here.
const (
	notFound      = "FileNotFoundException"
	alreadyExists = "FileAlreadyExistsException"
	notFolder     = "ParentNotDirectoryException"
	notEmpty      = "PathIsNotEmptyDirectoryException"
)

// errUnsent: there was no connection, so the server has not seen the request.
var errUnsent = errors.New("not sent")

// serverError is an answer that is not a success.
type serverError struct {
	status    int
	exception string // the RemoteException's name; "" if the answer did not come from WebHDFS
	message   string
}

func (e *serverError) Error() string {
	text := fmt.Sprintf("HTTP status %d", e.status)
	if e.exception != "" {
		text = e.exception
	}
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// answerError reads the error out of an answer.
func answerError(resp *http.Response) error {
	e := &serverError{status: resp.StatusCode}
	if resp.StatusCode == http.StatusUnauthorized && strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Negotiate") {
		e.message = "the server wants Kerberos, which this bucket does not speak"
		return e
	}
	var remote struct {
		RemoteException struct{ Exception, Message string }
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		e.message = err.Error() // what the server did is unknown
	case json.Unmarshal(body, &remote) == nil:
		e.exception = remote.RemoteException.Exception
		e.message = firstLine(remote.RemoteException.Message) // a stack can follow
		if e.exception == "AccessControlException" && strings.HasSuffix(e.message, "(is not a directory)") {
			e.exception = notFolder // most operations have no error name of their own for it
		}
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain"):
		e.message = firstLine(string(body)) // "… a request to a Hadoop IPC port"
	}
	return e
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// exception returns the name of the RemoteException that err is, or "".
func exception(err error) string {
	var e *serverError
	if errors.As(err, &e) {
		return e.exception
	}
	return ""
}

// standby reports whether a namenode said that another one is active.
func standby(err error) bool {
	name := exception(err)
	return name == "StandbyException" || name == "ObserverRetryOnActiveException"
}

// refused reports whether nothing happened for certain:
//
//	no connection                                     not sent
//	4xx without an exception, but for 408             not WebHDFS, but what stands before it: authentication, another server
//	StandbyException, RetriableException, SafeMode…   not now, or not by this namenode
//	AccessControl…, Security…, …QuotaExceeded…, …     checked before the change
//
// Not certain are all other exceptions, for they also come from a failure in the
// middle (IOException, with 403 as most are), 5xx, and a lost connection.
func refused(err error) bool {
	var e *serverError
	if errors.Is(err, errUnsent) || errors.Is(err, storage.ErrKey) {
		return true
	}
	if !errors.As(err, &e) {
		return false
	}
	switch e.exception {
	case "":
		return e.status >= 400 && e.status < 500 && e.status != http.StatusRequestTimeout
	case notFound, alreadyExists, notFolder, notEmpty,
		"StandbyException", "ObserverRetryOnActiveException", "RetriableException", "SafeModeException",
		"AccessControlException", "SecurityException", "AuthorizationException", "InvalidToken",
		"NSQuotaExceededException", "DSQuotaExceededException", "QuotaByStorageTypeExceededException",
		"MaxDirectoryItemsExceededException", "PathComponentTooLongException",
		"InvalidPathException", "UnresolvedPathException", "SnapshotException", "SnapshotAccessControlException",
		"IllegalArgumentException", "UnsupportedOperationException":
		return true
	}
	return false
}

// changed is the error of a request that changes something.
func changed(err error) error {
	if refused(err) {
		return refusal(err)
	}
	return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
}

// refusal is the error of a request that has left nothing behind.
func refusal(err error) error {
	var e *serverError
	switch name := exception(err); {
	case name == notFolder:
		return fmt.Errorf("%w: a folder in the key is an object: %w", storage.ErrKey, err)
	case name == "AccessControlException", name == "SecurityException",
		errors.As(err, &e) && e.status == http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}

// missing is the error of a request that reads.
func missing(err error) error {
	if name := exception(err); name == notFound || name == notFolder {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return refusal(err)
}
