package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The bounds of an upload. What fits into one part is held in memory, so that a request that failed can be
// made again; of more, one part is.
const (
	partBytes   = 16 << 20
	s3Attempts  = 5
	probeName   = ".conditions" // no name of a repository begins with a dot
	sumMetadata = "Sha256"      // x-amz-meta-sha256: what we uploaded need not be read again to be known
)

var (
	// ErrCredentials says that an object store does not let us in.
	ErrCredentials = errors.New("the object store does not accept the credentials")
	// ErrUnconditional says that an object store would let two publishers write over each other.
	ErrUnconditional = errors.New("the object store ignores conditions (If-Match, If-None-Match)")
)

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// s3 is a Store of objects. There is nothing to lock: every Put is conditional. A file that must not exist is
// created (If-None-Match: *), and the pointer is replaced if it is still the one that Lock saw (If-Match). Of
// two publishers one so becomes the loser, before readers have seen anything of it. Each object appears whole.
type s3 struct {
	core   minio.Core
	bucket string
	prefix string // "" or with a slash at its end

	mu      sync.Mutex
	began   bool   // Lock has seen the pointer
	pointer string // its ETag then, "" for none
}

// S3 is the Store of an address BUCKET/PREFIX?endpoint=URL&region=NAME; PREFIX and both parameters may be left
// out. Without an endpoint it is AWS, without a region AWS_REGION or what the server says. Credentials come from where the tools of AWS look for them: AWS_ACCESS_KEY_ID with
// AWS_SECRET_ACCESS_KEY, the shared file (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE), or the role of a
// container. ErrCredentials is returned when there are none.
func S3(address string) (Store, error) {
	place, query, _ := strings.Cut(address, "?")
	bucket, prefix, _ := strings.Cut(place, "/")
	endpoint, region, err := s3Options(query)
	if err != nil {
		return nil, err
	}
	if bucket == "" {
		return nil, errors.New("no bucket is named")
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		if !validPrefix.MatchString(prefix) || strings.Contains(prefix, "..") {
			return nil, fmt.Errorf("prefix %q: use letters, digits, dots, hyphens, underscores and slashes", prefix)
		}
		prefix += "/"
	}
	keys := credentials.NewChainCredentials(providers())
	if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID == "" {
		return nil, fmt.Errorf("%w: there are none. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for one of ~/.aws/credentials", ErrCredentials)
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: keys, Secure: endpoint.Scheme == "https", Region: region, MaxRetries: s3Attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", endpoint, err)
	}
	return &s3{core: *core, bucket: bucket, prefix: prefix}, nil
}

func s3Options(query string) (endpoint *url.URL, region string, err error) {
	options, err := url.ParseQuery(query)
	if err != nil {
		return nil, "", err
	}
	for key, values := range options {
		if key != "endpoint" && key != "region" || len(values) != 1 {
			return nil, "", fmt.Errorf("parameter %q: there are endpoint and region, each at most once; credentials are never part of an address", key)
		}
	}
	text := options.Get("endpoint")
	if text == "" {
		text = "https://s3.amazonaws.com"
	}
	endpoint, err = url.Parse(text)
	if err != nil {
		return nil, "", err
	}
	if (endpoint.Scheme != "https" && endpoint.Scheme != "http") || endpoint.Host == "" || endpoint.User != nil || strings.Trim(endpoint.Path, "/") != "" {
		return nil, "", fmt.Errorf("endpoint %q: write it as https://HOST or https://HOST:PORT", endpoint.Redacted())
	}
	return endpoint, cmp.Or(options.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")), nil
}

// providers are asked in turn. The last one asks the machine's own metadata service when no container has
// named another; where there is none it must not hold anybody up.
func providers() []credentials.Provider {
	near := &http.Client{Timeout: 5 * time.Second}
	return []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: near}}
}

func (s *s3) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	r, sizeBytes, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if sizeBytes > maxBytes {
		return nil, fmt.Errorf("%s: %w (%d bytes)", name, ErrTooLong, maxBytes)
	}
	return io.ReadAll(io.LimitReader(r, maxBytes))
}

func (s *s3) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	ctx, w := watch(ctx, longestSilence)
	r, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		defer w.end()
		return nil, 0, s.explain(ctx, err)
	}
	w.body = r
	return w, info.Size, nil
}

func (s *s3) sum(ctx context.Context, name string) (string, int64, error) {
	if err := checkName(name); err != nil {
		return "", 0, err
	}
	info, err := s.core.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return "", 0, s.explain(ctx, err)
	}
	return info.UserMetadata[sumMetadata], info.Size, nil
}

// Put tries again when the answer is that there is no such object, which a write cannot mean: servers that keep files
// answer so when another publisher's refused write took a folder away beneath it.
func (s *s3) Put(ctx context.Context, f File) error {
	if err := checkName(f.Name); err != nil {
		return err
	}
	options := minio.PutObjectOptions{
		UserMetadata: map[string]string{sumMetadata: f.SHA256}, PartSize: partBytes,
		ContentType: contentType(f.Name), CacheControl: cacheControl(f.Name),
	}
	s.mu.Lock()
	began, tag := s.began, s.pointer
	s.mu.Unlock()
	switch {
	case !began:
		return errors.New("put: internal error: nobody looked at the pointer before")
	case f.Name == Pointer && tag != "":
		options.SetMatchETag(tag)
	default:
		options.SetMatchETagExcept("*")
	}
	err := s.upload(ctx, f, options)
	for i := 1; i < s3Attempts && errors.Is(err, fs.ErrNotExist); i++ {
		err = s.upload(ctx, f, options)
	}
	if err == nil || !refusedByCondition(err) {
		return err
	}
	if f.Name == Pointer {
		return fmt.Errorf("%w: it has another %s than when we began", ErrBusy, Pointer)
	}
	return fs.ErrExist
}

func (s *s3) upload(ctx context.Context, f File, options minio.PutObjectOptions) error {
	r, err := f.reader()
	if err != nil {
		return err
	}
	defer r.Close()
	var body io.Reader = r
	if f.SizeBytes <= partBytes {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	info, err := s.core.Client.PutObject(ctx, s.bucket, s.prefix+f.Name, body, f.SizeBytes, options)
	if err == nil && f.Name == Pointer {
		s.mu.Lock()
		s.pointer = info.ETag
		s.mu.Unlock()
	}
	return s.explain(ctx, err)
}

// Lock notes the pointer. It first makes sure that the other side heeds conditions at all: what it does not
// understand it would ignore, and overwrite.
func (s *s3) Lock(ctx context.Context) (func(), error) {
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	info, err := s.core.StatObject(ctx, s.bucket, s.prefix+Pointer, minio.StatObjectOptions{})
	err = s.explain(ctx, err)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for %s: %w", Pointer, err)
	}
	s.mu.Lock()
	s.began, s.pointer = true, info.ETag
	s.mu.Unlock()
	return func() {}, nil
}

// probe makes a small object that must not exist (it may) and then twice asks for what must be refused.
func (s *s3) probe(ctx context.Context) error {
	var absent, other minio.PutObjectOptions
	absent.SetMatchETagExcept("*")
	other.SetMatchETag("00000000000000000000000000000000")
	for i, options := range []minio.PutObjectOptions{absent, absent, other} {
		text := "Whether conditions are heeded here is tried with this object.\n"
		_, err := s.core.Client.PutObject(ctx, s.bucket, s.prefix+probeName, strings.NewReader(text), int64(len(text)), options)
		switch {
		case err != nil && refusedByCondition(err), err == nil && i == 0:
		case err == nil:
			return fmt.Errorf("%w: two publishers could write over each other there. Use a server that heeds them, or publish to dir:PATH and copy", ErrUnconditional)
		default:
			return fmt.Errorf("try whether conditions are heeded: %w", s.explain(ctx, err))
		}
	}
	return nil
}

// refusedByCondition covers the answer to a condition that does not hold, and the one to a write that meets
// another of the same name (ConditionalRequestConflict).
func refusedByCondition(err error) bool {
	status := minio.ToErrorResponse(err).StatusCode
	return status == http.StatusPreconditionFailed || status == http.StatusConflict
}

// explain gives an error of the server the kind that callers know, and says what to do about it.
func (s *s3) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	answer := minio.ToErrorResponse(err)
	switch answer.Code {
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %w", answer.Key, fs.ErrNotExist)
	case minio.NoSuchBucket:
		return fmt.Errorf("there is no bucket %s: make it first, or correct its name, endpoint and region", s.bucket)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidTokenId", "ExpiredToken", "InvalidToken":
		return fmt.Errorf("%w (%s): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if there is one) to those of an account that may write to bucket %s", ErrCredentials, answer.Code, s.bucket)
	case minio.AccessDenied, "AllAccessDisabled":
		return fmt.Errorf("%w (%s): allow this account s3:GetObject, s3:PutObject and s3:AbortMultipartUpload on %s/%s* and s3:ListBucket on the bucket", ErrCredentials, answer.Code, s.bucket, s.prefix)
	}
	return err
}
