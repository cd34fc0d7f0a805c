package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/e2e/harness"
)

// hostileValue is what a device could send to whoever looks at its records.
const hostileValue = `</pre><script>document.title='pwned'</script><img src=x onerror="document.title='pwned'">`

// TestBrowser: the page of a node in Chromium, in the widths of a phone and a desk,
// light and dark. It runs its own script, and none that came in a record; it breaks no
// rule of its policy, and nothing of it lies beyond the screen's side.
func TestBrowser(t *testing.T) {
	chromium := need(t, "chromium", "chromium")
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	c := open(t, &harness.Cluster{})
	host, port, _ := strings.Cut(c.MQTT(), ":")
	for topic, value := range map[string]string{"pumps/7/pressure": hostileValue, "pumps/<b>8</b>/pressure": `{"bar":2.1,"pump":{"id":8}}`} {
		command(t, pub, "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", value)
	}
	within(t, 30*time.Second, "both readings", func() bool { return recordsOf(c, "pumps") == 2 })
	b := newBrowser(t, c, chromium)
	var partition int
	within(t, 30*time.Second, "the hostile record", func() bool {
		partition = partitionOf(t, c, "pumps", "pumps/7/pressure")
		return partition >= 0
	})
	for _, page := range []string{"/", "/topics", "/topic?name=pumps", fmt.Sprintf("/records?topic=pumps&partition=%d", partition), "/gateways", "/gateway?id=gw-1", "/groups", "/nodes", "/errors"} {
		b.visit(t, page)
	}
	for _, page := range []string{"/", "/nodes", fmt.Sprintf("/records?topic=pumps&partition=%d", partition)} {
		for name, size := range map[string][2]int{"phone": {390, 844}, "desk": {1280, 900}} {
			b.picture(t, page, name, size)
		}
		if width := b.width(t, page, 390); width > 390 {
			t.Errorf("%s is %d pixels wide on a phone of 390", page, width)
		}
	}
	if width := b.width(t, "/", 60); width <= 60 {
		t.Errorf("a page fits into %d pixels: the measure is wrong", width)
	}
	before := b.asked.Load()
	b.dump(t, "/", "--virtual-time-budget=16000")
	if n := b.asked.Load() - before; n < 2 {
		t.Errorf("a page that is looked at was fetched %d times in 16 s", n)
	}
}

// partitionOf finds the partition of a topic that has a record with a key, -1 for none.
func partitionOf(t *testing.T, c *harness.Cluster, topic, key string) int {
	t.Helper()
	out, stderr, err := c.Weirctl("consume", topic, "-o", "json")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for line := range strings.Lines(out) {
		if number := regexp.MustCompile(`"partition":(\d+)`).FindStringSubmatch(line); number != nil && strings.Contains(line, key) {
			n, _ := strconv.Atoi(number[1])
			return n
		}
	}
	return -1
}

// browser is a Chromium that is logged in: what it asks goes through a proxy that adds
// the credential.
type browser struct {
	program, profile string
	plain, measuring string       // URLs of the proxy; through the second one pages can be measured
	asked            atomic.Int64 // requests for "/"
}

func newBrowser(t *testing.T, c *harness.Cluster, program string) *browser {
	t.Helper()
	target, err := url.Parse(c.HTTP())
	if err != nil {
		t.Fatal(err)
	}
	token, err := admin.ReadToken(filepath.Join(c.CloudData(), admin.File))
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{program: program, profile: t.TempDir()}
	proxy := func(change func(*http.Response) error) string {
		mux := http.NewServeMux()
		mux.HandleFunc("/measure", ruler)
		mux.Handle("/", &httputil.ReverseProxy{ModifyResponse: change, Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer "+token)
			if r.In.URL.Path == "/" {
				b.asked.Add(1)
			}
		}})
		s := httptest.NewServer(mux)
		t.Cleanup(s.Close)
		return s.URL
	}
	b.plain, b.measuring = proxy(nil), proxy(openUp)
	return b
}

// openUp lets a page be part of another one, which its headers forbid.
func openUp(res *http.Response) error {
	res.Header.Del("Content-Security-Policy")
	res.Header.Del("X-Frame-Options")
	return nil
}

// ruler is a page that says in its title how wide another one is in a frame: no
// window of Chromium is as narrow as a phone.
func ruler(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, `<!DOCTYPE html><iframe width="%s" height="800" style="border:0" src="%s"></iframe><script>
		document.querySelector("iframe").addEventListener("load", e => { document.title = "width " + e.target.contentDocument.documentElement.scrollWidth; });
		</script>`, html.EscapeString(r.FormValue("width")), html.EscapeString(r.FormValue("page")))
}

// run starts Chromium for one URL, and returns what it printed and what it logged.
func (b *browser) run(t *testing.T, url string, flags ...string) (out, logged string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	flags = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--enable-logging=stderr",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir=" + b.profile}, flags...)
	cmd := exec.CommandContext(ctx, b.program, append(flags, url)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium %s: %v\n%s", url, err, last(stderr.String(), 4_000))
	}
	return stdout.String(), stderr.String()
}

// dump returns a page as it is when its scripts have run.
func (b *browser) dump(t *testing.T, page string, flags ...string) string {
	t.Helper()
	out, _ := b.run(t, b.plain+page, append(flags, "--dump-dom")...)
	return out
}

// visit looks at a page and at what Chromium says about it.
func (b *browser) visit(t *testing.T, page string) {
	t.Helper()
	out, logged := b.run(t, b.plain+page, "--dump-dom")
	if !strings.Contains(out, `id="main"`) || strings.Contains(out, `role="alert"`) {
		t.Errorf("%s shows\n%s", page, last(out, 2_000))
	}
	if strings.Contains(out, "<title>pwned") {
		t.Errorf("%s has run what came in a record", page)
	}
	for line := range strings.Lines(logged) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("%s: %s", page, line)
		}
	}
}

// picture takes one of a page, light and dark, and makes sure that something is on it.
// WEIR_PICTURES names a folder that keeps them.
func (b *browser) picture(t *testing.T, page, name string, size [2]int) {
	t.Helper()
	dir := os.Getenv("WEIR_PICTURES")
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	about := cmp.Or(strings.Trim(strings.Split(page, "?")[0], "/"), "overview")
	for scheme, flag := range map[string]string{"light": "--blink-settings=preferredColorScheme=1", "dark": "--blink-settings=preferredColorScheme=0"} {
		path := filepath.Join(dir, fmt.Sprintf("%s-%s-%s.png", about, name, scheme))
		b.run(t, b.plain+page, fmt.Sprintf("--window-size=%d,%d", size[0], size[1]), flag, "--screenshot="+path)
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		colours := make(map[[3]uint32]int)
		bounds := picture.Bounds()
		for x := bounds.Min.X; x < bounds.Max.X; x += 3 {
			for y := bounds.Min.Y; y < bounds.Max.Y; y += 3 {
				r, g, b, _ := picture.At(x, y).RGBA()
				colours[[3]uint32{r >> 8, g >> 8, b >> 8}]++
			}
		}
		r, g, bl, _ := picture.At(bounds.Min.X+2, bounds.Max.Y-2).RGBA()
		if bright := (r+g+bl)/3>>8 > 128; bounds.Dx() != size[0] || len(colours) < 20 || bright != (scheme == "light") {
			t.Errorf("%s, %s, %s: %v, %d colours, a bright ground: %v", page, name, scheme, bounds, len(colours), bright)
		}
	}
}

// width is how wide a page is on a screen of a width, in pixels.
func (b *browser) width(t *testing.T, page string, screen int) int {
	t.Helper()
	query := url.Values{"page": {page}, "width": {strconv.Itoa(screen)}}
	out, _ := b.run(t, b.measuring+"/measure?"+query.Encode(), "--virtual-time-budget=3000", "--dump-dom")
	found := regexp.MustCompile(`<title>width (\d+)</title>`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("%s does not say how wide it is:\n%s", page, last(out, 1_000))
	}
	n, _ := strconv.Atoi(found[1])
	return n
}
