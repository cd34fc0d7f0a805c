package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/weirmq/weir/storage"
)

// Open opens the bucket that a URL names, and makes sure that it is there:
//
//	s3://bucket/prefix?endpoint=https://host:port&region=eu-central-1&style=path
//
// The prefix may be missing: the bucket is then the whole S3 bucket. The endpoint may
// be missing (AWS), and the region (the store is asked). style is "path" for stores
// with bucket names in the path and "host" for those with them in the host name; the
// default is the usual one for the endpoint.
//
// Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from
// MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, or from ~/.aws/credentials.
func Open(ctx context.Context, rawURL string) (storage.Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("s3 bucket: " + usage) // err would quote what may be a password
	}
	b, prefix, err := parse(u)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", plain(u), err)
	}
	found, err := b.client.BucketExists(ctx, b.name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: ask %s whether the bucket exists: %w", plain(u), b.client.EndpointURL(), err)
	}
	if !found {
		return nil, fmt.Errorf("bucket %s: there is no bucket %q at %s: create it first", plain(u), b.name, b.client.EndpointURL())
	}
	if prefix == "" {
		return b, nil
	}
	return storage.Prefix(b, prefix), nil
}

// plain returns u without what may be a password.
func plain(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path}).String()
}

const usage = "the URL must be s3://bucket/prefix?endpoint=…&region=…&style=…"

func parse(u *url.URL) (b *Bucket, prefix string, err error) {
	if u.Scheme != "s3" || u.Host == "" || u.Opaque != "" || u.User != nil {
		return nil, "", errors.New(usage)
	}
	if prefix = strings.Trim(u.Path, "/"); prefix != "" {
		if err := storage.CheckKey(prefix); err != nil {
			return nil, "", err
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", err
	}
	for name := range query {
		if !slices.Contains([]string{"endpoint", "region", "style"}, name) {
			return nil, "", fmt.Errorf("unknown parameter %q: use endpoint, region or style", name)
		}
	}
	b, err = connect(u.Host, query.Get("endpoint"), query.Get("region"), query.Get("style"))
	return b, prefix, err
}

// connect creates the client. It sends nothing yet.
func connect(name, endpoint, region, style string) (*Bucket, error) {
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("endpoint must be http://host:port or https://host:port")
	}
	lookup, known := map[string]minio.BucketLookupType{
		"": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "host": minio.BucketLookupDNS,
	}[style]
	if !known {
		return nil, fmt.Errorf("style is %q: it must be path or host", style)
	}
	keys := credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{},
	})
	if value, err := keys.GetWithContext(nil); err != nil || value.SignerType == credentials.SignatureAnonymous {
		return nil, errors.New("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	transport, err := minio.DefaultTransport(u.Scheme == "https")
	if err != nil {
		return nil, err
	}
	client, err := minio.NewCore(u.Host, &minio.Options{
		Creds:        keys,
		Secure:       u.Scheme == "https",
		Transport:    transport,
		Region:       region,
		BucketLookup: lookup,
		MaxRetries:   1, // none: the library would repeat a PUT whose answer was lost

		TrailingHeaders: true, // the library needs this for a checksum, even for one in a plain header
	})
	if err != nil {
		return nil, err
	}
	return &Bucket{client: client, transport: transport, name: name}, nil
}
