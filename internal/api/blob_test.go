package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/internal/operator"
)

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func blobPath(sum string) string { return "/v1/blobs/sha256/" + sum }

// files lists what is in the packages' store, temporary files included.
func (w *world) files() (names []string) {
	w.t.Helper()
	if err := filepath.WalkDir(filepath.Join(w.dir, "blobs"), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, filepath.Base(p))
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return names
}

func TestBlobs(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	body := bytes.Repeat([]byte("kernel "), 100_000)
	sum := sumOf(body)
	admin := w.client(nil, w.admin)
	if res := w.do(admin, "HEAD", blobPath(sum), nil); res.StatusCode != 404 {
		t.Errorf("before: %s", res.Status)
	}
	if res := w.do(admin, "PUT", blobPath(sum), bytes.NewReader(body)); res.StatusCode != 201 {
		t.Fatalf("upload: %s", res.Status)
	}
	if res := w.do(admin, "PUT", blobPath(sum), strings.NewReader("ignored: it is there")); res.StatusCode != 200 {
		t.Errorf("again: %s", res.Status)
	}
	if got := w.files(); len(got) != 1 || got[0] != sum {
		t.Errorf("files %v, want the package alone", got)
	}
	for who, c := range map[string]*http.Client{"a host": w.client(m.tls(), ""), "a viewer": w.client(nil, w.operatorToken("vera", operator.RoleViewer))} {
		res := w.do(c, "GET", blobPath(sum), nil)
		got, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || !bytes.Equal(got, body) {
			t.Errorf("%s fetched %d bytes, %s (%v)", who, len(got), res.Status, err)
		}
		res = w.do(c, "GET", blobPath(sum), nil, "Range", "bytes=699990-", "If-Range", `"`+sum+`"`)
		got, err = io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 206 || !bytes.Equal(got, body[699_990:]) {
			t.Errorf("%s resumed: %q, %s (%v)", who, got, res.Status, err)
		}
		if res := w.do(c, "HEAD", blobPath(sum), nil); res.StatusCode != 200 || res.ContentLength != int64(len(body)) {
			t.Errorf("%s asked for the size: %s, %d", who, res.Status, res.ContentLength)
		}
	}
}

func TestBlobRefusals(t *testing.T) {
	w := serve(t, func(c *Config) { c.MaxBlob, c.MaxDownloads = 1000, 1 })
	m := w.enrol("web-1")
	body := []byte("package")
	sum := sumOf(body)
	admin, host := w.client(nil, w.admin), w.client(m.tls(), "")
	viewer := w.client(nil, w.operatorToken("vera", operator.RoleViewer))
	if res := w.do(admin, "PUT", blobPath(sum), bytes.NewReader(body)); res.StatusCode != 201 {
		t.Fatal(res.Status)
	}
	other := sumOf([]byte("other"))
	big := bytes.Repeat([]byte("x"), 1001)
	unsized := func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) } // chunked: no length is announced
	for _, c := range []struct {
		name   string
		client *http.Client
		method string
		path   string
		body   io.Reader
		status int
		why    string
	}{
		{"fetch by anyone", w.client(nil, ""), "GET", blobPath(sum), nil, 401, "no host's certificate"},
		{"fetch with a wrong token", w.client(nil, "kwo_x"), "GET", blobPath(sum), nil, 401, "nobody has this"},
		{"store by a viewer", viewer, "PUT", blobPath(other), strings.NewReader("other"), 403, "needs operator"},
		{"store by a host", host, "PUT", blobPath(other), strings.NewReader("other"), 401, "no operator's token"},
		{"store by anyone", w.client(nil, ""), "PUT", blobPath(other), strings.NewReader("other"), 401, "no operator's token"},
		{"what there is not", host, "GET", blobPath(other), nil, 404, "there is no package"},
		{"a name that is no hash", admin, "GET", "/v1/blobs/sha256/abc", nil, 400, "not a SHA-256"},
		{"upper case", admin, "PUT", blobPath(strings.ToUpper(other)), strings.NewReader("other"), 400, "not a SHA-256"},
		{"a wrong hash", admin, "PUT", blobPath(other), strings.NewReader("another"), 400, "its SHA-256 is " + sumOf([]byte("another"))},
		{"nothing", admin, "PUT", blobPath(sumOf(nil)), nil, 400, "it is empty"},
		{"too large, announced", admin, "PUT", blobPath(sumOf(big)), bytes.NewReader(big), 413, "larger than 1000 bytes"},
		{"too large, not announced", admin, "PUT", blobPath(sumOf(big)), unsized(big), 413, "larger than 1000 bytes"},
		{"deleting", admin, "DELETE", blobPath(sum), nil, 400, "not with DELETE"},
		{"posting", admin, "POST", blobPath(sum), nil, 400, "not with POST"},
		{"climbing", admin, "GET", "/v1/blobs/sha256/..%2f..%2fadmin.token", nil, 400, "not a SHA-256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := w.do(c.client, c.method, c.path, c.body)
			p := readPlain(t, res)
			if res.StatusCode != c.status || !strings.Contains(p.Why, c.why) {
				t.Errorf("got %d %q, want %d …%s…", res.StatusCode, p.Why, c.status, c.why)
			}
		})
	}
	t.Run("a body that breaks off", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", w.url+blobPath(other), io.MultiReader(strings.NewReader("oth"), breaking{}))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := admin.Do(req); err == nil {
			res.Body.Close()
			t.Error("it was taken")
		}
	})
	t.Run("too many at once", func(t *testing.T) {
		w.s.downloads <- struct{}{}
		defer func() { <-w.s.downloads }()
		res := w.do(host, "GET", blobPath(sum), nil)
		if p := readPlain(t, res); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(p.Why, "being sent already") {
			t.Errorf("got %s %+v", res.Status, p)
		}
	})
	for _, f := range w.files() { // the upload that broke off may still be being cleared away
		if f != sum && !strings.HasPrefix(f, "upload-") {
			t.Errorf("refusals left %s", f)
		}
	}
}

type breaking struct{}

func (breaking) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBlobsClearAwayWhatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	b, err := openBlobs(dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.put(sumOf([]byte("a")), strings.NewReader("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "upload-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = openBlobs(dir, 1000); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
	if n, err := b.size(sumOf([]byte("a"))); err != nil || n != 1 {
		t.Errorf("what was whole is gone: %d, %v", n, err)
	}
}

func TestUploadsLeaveRoomOnTheDisk(t *testing.T) {
	b, err := openBlobs(t.TempDir(), 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.room(1); err != nil {
		t.Skipf("this machine's disk is nearly full: %v", err)
	}
	if err := b.room(1 << 61); err == nil || !strings.Contains(err.Error(), "must stay free") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestAddKernel(t *testing.T) {
	w := serve(t, nil)
	image, modules := []byte("image"), []byte("modules")
	for _, b := range [][]byte{image, modules} {
		if res := w.do(w.client(nil, w.admin), "PUT", blobPath(sumOf(b)), bytes.NewReader(b)); res.StatusCode != 201 {
			t.Fatal(res.Status)
		}
	}
	good := func() *kwv1.Kernel {
		return &kwv1.Kernel{
			Release: "6.12.9+deb12-cloud-amd64", Version: "1:6.12.9-1~bpo12+1", Family: "debian", Arch: "amd64", Flavour: "cloud-amd64",
			Packages: []*kwv1.Package{
				{Name: "linux-image-6.12.9+deb12-cloud-amd64", Version: "6.12.9-1", Arch: "amd64", Sha256: sumOf(image), Size: int64(len(image))},
				{Name: "linux-modules", Version: "6.12.9-1", Arch: "amd64", Sha256: sumOf(modules), Size: int64(len(modules))},
			},
		}
	}
	k := rpc.NewKernelServiceClient(w.client(nil, w.operatorToken("otto", operator.RoleOperator)), w.url)
	add := func(v *kwv1.Kernel) (*kwv1.Kernel, error) {
		res, err := k.AddKernel(t.Context(), connect.NewRequest(&kwv1.AddKernelRequest{Kernel: v}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	first, err := add(good())
	if err != nil {
		t.Fatal(err)
	}
	if first.GetId() != "6.12.9+deb12-cloud-amd64" || first.GetAddedBy() != "otto" || !first.GetAddedAt().AsTime().Equal(t0) {
		t.Errorf("added %v", first)
	}
	w.clock.advance(1e9)
	again, err := add(good())
	if err != nil || !again.GetAddedAt().AsTime().Equal(t0) {
		t.Errorf("the same again: %v (%v), want what was there", again, err)
	}

	absent := sumOf([]byte("absent"))
	for _, c := range []struct {
		name   string
		change func(*kwv1.Kernel)
		code   connect.Code
		why    string
	}{
		{"other content under the same id", func(k *kwv1.Kernel) { k.Packages = k.Packages[:1] }, connect.CodeAlreadyExists, "with other content"},
		{"a package that was not uploaded", func(k *kwv1.Kernel) { k.Packages[0].Sha256 = absent }, connect.CodeFailedPrecondition, "has not been uploaded"},
		{"a wrong size", func(k *kwv1.Kernel) { k.Packages[0].Size++ }, connect.CodeInvalidArgument, "has 5 bytes, not 6"},
		{"no release", func(k *kwv1.Kernel) { k.Release = "" }, connect.CodeInvalidArgument, `release ""`},
		{"a release that leaves its directory", func(k *kwv1.Kernel) { k.Release = "../6.12" }, connect.CodeInvalidArgument, `release "../6.12"`},
		{"an id with a space", func(k *kwv1.Kernel) { k.Id = "a b" }, connect.CodeInvalidArgument, `id "a b"`},
		{"no packages", func(k *kwv1.Kernel) { k.Packages = nil }, connect.CodeInvalidArgument, "no packages"},
		{"the same package twice", func(k *kwv1.Kernel) { k.Packages[1] = k.Packages[0] }, connect.CodeInvalidArgument, "there twice"},
		{"an option as a name", func(k *kwv1.Kernel) { k.Packages[0].Name = "--root=/" }, connect.CodeInvalidArgument, `name "--root=/"`},
		{"a hash that is none", func(k *kwv1.Kernel) { k.Packages[0].Sha256 = "../../admin.token" }, connect.CodeInvalidArgument, "64 lower-case hex"},
		{"an empty package", func(k *kwv1.Kernel) { k.Packages[0].Size = 0 }, connect.CodeInvalidArgument, "size 0"},
		{"too many packages", func(k *kwv1.Kernel) { k.Packages = make([]*kwv1.Package, 100) }, connect.CodeInvalidArgument, "at most 32"},
		{"nothing at all", func(k *kwv1.Kernel) { proto.Reset(k) }, connect.CodeInvalidArgument, "no packages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := good()
			c.change(v)
			_, err := add(v)
			refused(t, err, c.code, c.why)
		})
	}
	res, err := k.ListKernels(t.Context(), connect.NewRequest(&kwv1.ListKernelsRequest{}))
	if err != nil || len(res.Msg.GetKernels()) != 1 {
		t.Errorf("kernels %v (%v), want one", res, err)
	}
	added := 0
	for _, kind := range w.events("") {
		if kind == "kernel.added" {
			added++
		}
	}
	if added != 1 {
		t.Errorf("%d events kernel.added, want 1", added)
	}
}
