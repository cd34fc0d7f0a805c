package hdfs_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/hdfs"
)

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"hdfs:host/path", "must be hdfs://namenode:9870/folder"},
		{"s3://host/path", "must be hdfs://namenode:9870/folder"},
		{"hdfs://", "must be hdfs://namenode:9870/folder"},
		{"hdfs:///path", "must be hdfs://namenode:9870/folder"},
		{"hdfs://host", "the URL must name a folder, as in hdfs://namenode:9870/weir"},
		{"hdfs://host/", "the URL must name a folder, as in hdfs://namenode:9870/weir"},
		{"hdfs://host?user=me", "the URL must name a folder, as in hdfs://namenode:9870/weir"},
		{"hdfs://host/a//b", "invalid key"},
		{"hdfs://host/a/../b", "invalid key"},
		{"hdfs://host/.tmp", "invalid key"},
		{"hdfs://me:hunter2@host/path", "the URL must not have credentials"},
		{"hdfs://host,me:hunter2@host/path", "the URL must not have credentials"},
		{"hdfs://host/path?usr=me", `unknown parameter "usr": use user or tls`},
		{"hdfs://host/path?tls=yes", `tls is "yes": it must be true or false`},
		{"hdfs://host/path?%", "invalid URL escape"},
		{"hdfs://host:/path", `"host:" is not host:port`},
		{"hdfs://:9870/path", `":9870" is not host:port`},
		{"hdfs://host:1:2/path", `"host:1:2" is not host:port`},
		{"hdfs://host:1,/path", `"" is not host:port`},
		{"hdfs://127.0.0.1:1/path", "connection refused"},
		{"hdfs://127.0.0.1:1,127.0.0.1:2/path", "connection refused"},
		{"hdfs://127.0.0.1:1/path?tls=true", "connection refused"},
	} {
		_, err := hdfs.Open(t.Context(), test.url)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%s): %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// TestOpenServers: a server that the bucket cannot be kept on is refused with
// the reason.
func TestOpenServers(t *testing.T) {
	for _, test := range []struct {
		name   string
		op     string
		answer answer
		want   string
	}{
		{"Kerberos", "MKDIRS", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.WriteHeader(http.StatusUnauthorized)
		}, "wants Kerberos, which this bucket does not speak"},
		{"the port of the RPC", "MKDIRS", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte("It looks like the port of something else.\nReally.\n"))
		}, "HTTP status 404: It looks like the port of something else."},
		{"HttpFS", "RENAME", reply(isFalse), "use the address of the namenode itself"},
		{"observer", "/jmx", reply(`{"beans":[{"State":"observer"}]}`), "is an observer namenode, whose answers are old"},
		{"safe mode", "MKDIRS", refuse(403, "SafeModeException"), "SafeModeException: as told"},
		{"no permission", "MKDIRS", refuse(403, "AccessControlException"), "permission denied"},
	} {
		f := newFake(t)
		f.set(test.op, test.answer)
		_, err := hdfs.Open(t.Context(), "hdfs://"+f.server.Listener.Addr().String()+"/weir")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Open: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestOpenTLS(t *testing.T) {
	f := newFake(t)
	server := httptest.NewTLSServer(f)
	defer server.Close()
	_, err := hdfs.Open(t.Context(), "hdfs://"+server.Listener.Addr().String()+"/weir?tls=true")
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Open of a server whose certificate nobody knows: %v", err)
	}
}

// TestNamenodes: what a namenode has certainly not done is asked of the next
// one, and nothing else is.
func TestNamenodes(t *testing.T) {
	standby := refuse(403, "StandbyException")
	newPair := func(t *testing.T) (first, second *fake, b *hdfs.Bucket) {
		first, second = newFake(t), newFake(t)
		b = open(t, first, second)
		return first, second, b
	}
	t.Run("standby", func(t *testing.T) {
		first, second, b := newPair(t)
		for _, op := range []string{"CREATE", "RENAME", "DELETE", "OPEN", "LISTSTATUS_BATCH"} {
			first.set(op, standby)
		}
		for _, key := range []string{"a", "b"} {
			if err := b.Create(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.List(t.Context(), "", "", 1); err != nil {
			t.Error(err)
		}
		seen, _ := first.requests()
		if !slices.Equal(seen, []string{"CREATE"}) {
			t.Errorf("the standby was asked for %q, want the first CREATE alone", seen)
		}
		// And back.
		second.server.Close()
		first.set("OPEN", toDatanode)
		if _, err := b.Get(t.Context(), "key", 0, -1); err != nil {
			t.Error(err)
		}
	})
	t.Run("down", func(t *testing.T) {
		first, _, b := newPair(t)
		first.server.Close()
		if err := b.Create(t.Context(), "a", nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("all standby", func(t *testing.T) {
		first, second, b := newPair(t)
		first.set("DELETE", standby)
		second.set("DELETE", standby)
		if err := b.Delete(t.Context(), "a"); outcome(err) != "nothing" {
			t.Errorf("Delete: %v, want an error that says nothing happened", err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		first, second, b := newPair(t)
		first.set("DELETE", hangUp)
		if err := b.Delete(t.Context(), "a"); outcome(err) != "unknown" {
			t.Errorf("Delete: %v, want unknown", err)
		}
		if seen, _ := second.requests(); len(seen) != 0 {
			t.Errorf("what the first may have done was sent to the second: %q", seen)
		}
	})
}

// TestWarningsOutcomes: each thing that the server may tell, and silence.
func TestWarningsOutcomes(t *testing.T) {
	dropFlag := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://"+r.Host+r.URL.Path+"?datanode&op=CREATE")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	setting := func(name, value string) answer {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("name") != name {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Write([]byte(`{"property":{"key":"` + name + `","value":"` + value + `"}}`))
		}
	}
	beans := func(alive, journals string) answer {
		return reply(`{"beans":[{"NumLiveDataNodes":` + alive + `,"NameJournalStatus":"[` + journals + `]"}]}`)
	}
	const local, spare, quorum = `{\"manager\":\"FileJournalManager(a)\",\"disabled\":\"false\"}`,
		`{\"manager\":\"FileJournalManager(b)\",\"disabled\":\"false\"}`, `{\"manager\":\"QJM to [a, b, c]\",\"disabled\":\"false\"}`
	for _, test := range []struct {
		name   string
		op     string
		answer answer
		want   []string
	}{
		{"all well", "/jmx", beans("3", local+","+spare), nil},
		{"journal nodes", "/jmx", beans("3", quorum), nil},
		{"one copy", "GETFILESTATUS", reply(`{"FileStatus":{"type":"FILE","replication":1}}`), []string{"one copy of each object"}},
		{"erasure coding", "GETFILESTATUS", reply(`{"FileStatus":{"type":"FILE","replication":1,"ecPolicy":"RS-6-3"}}`), nil},
		{"one datanode", "/jmx", beans("1", local+","+spare), []string{"only one datanode is alive"}},
		{"memory", "GETSTORAGEPOLICY", reply(`{"BlockStoragePolicy":{"name":"LAZY_PERSIST"}}`), []string{"LAZY_PERSIST"}},
		{"flag dropped", "CREATE", dropFlag, []string{"set dfs.datanode.synconclose=true"}},
		{"one log", "/jmx", beans("3", local), []string{"keeps its log in one place"}},
		{"one log of two", "/jmx", beans("3", local+","+strings.Replace(spare, "false", "true", 1)), []string{"keeps its log in one place"}},
		{"no sync", "/conf", setting("dfs.namenode.edits.noeditlogchannelflush", "true"), []string{"does not sync its log"}},
		{"no fence", "/conf", setting("dfs.ha.fencing.methods", " shell(/bin/true) "), []string{"is not fenced"}},
		{"fence", "/conf", setting("dfs.ha.fencing.methods", "sshfence"), nil},
		{"stale standby", "/conf", setting("dfs.ha.allow.stale.reads", "true"), []string{"a standby namenode answers reads"}},
		{"no metrics", "/jmx", status(403), []string{"it is not known how many copies", "it is not known how the namenode keeps its log"}},
		{"no settings", "/conf", status(403), []string{"it is not known how the namenode is set up"}},
		{"no writing", "CREATE", refuse(403, "SafeModeException"), []string{"it is not known how many copies", "it is not known whether the datanodes write through"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := open(t, f)
			f.set("GETFILESTATUS", reply(`{"FileStatus":{"type":"FILE","replication":3}}`))
			f.set("GETSTORAGEPOLICY", reply(`{"BlockStoragePolicy":{"name":"HOT"}}`))
			f.set("/jmx", beans("3", local+","+spare))
			f.set(test.op, test.answer)
			wantWarnings(t, b, test.want...)
		})
	}
}

func wantWarnings(t *testing.T, b *hdfs.Bucket, texts ...string) {
	t.Helper()
	found := b.Warnings(t.Context())
	if len(found) != len(texts) {
		t.Errorf("Warnings: %q, want %q", found, texts)
		return
	}
	for i, text := range texts {
		if !strings.Contains(found[i], text) {
			t.Errorf("Warning %q, want %q", found[i], text)
		}
	}
}

// TestErrorKinds: the errors that callers look for come out of the chain.
func TestErrorKinds(t *testing.T) {
	f := newFake(t)
	b := open(t, f)
	f.set("DELETE", refuse(403, "AccessControlException"))
	if err := b.Delete(t.Context(), "a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Delete: %v, want fs.ErrPermission", err)
	}
	f.set("RENAME", refuse(401, ""))
	if err := b.Create(t.Context(), "a", nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Create: %v, want fs.ErrPermission", err)
	}
}
