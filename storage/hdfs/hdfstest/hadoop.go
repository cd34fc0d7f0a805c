// Package hdfstest starts a real HDFS, one namenode and one datanode, for the
// tests of whatever keeps its objects there.
package hdfstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	superuser = "hdfs" // owns the file system, whoever runs the tests
	user      = "weir"
)

// Server is an HDFS on loopback that lives as long as the test that started it.
// Its methods are for that test's goroutine.
type Server struct {
	Namenode string // host:port of WebHDFS; a new one after Restart

	java, jars string
	dir        string // everything the servers keep
	stop       func() // kills them and waits for their end
	log        bytes.Buffer
}

// Start starts a server on empty temporary folders. It looks for java, and for
// the jars at $WEIR_HDFS_JARS, else at ~/.cache/weir/hdfs. When they are not
// there the test is skipped, or fails if WEIR_REQUIRE_SERVICES is 1.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir(), stop: func() {}}
	s.java, s.jars = find(t)
	if err := s.configure("127.0.0.1:0", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	format := exec.Command(s.java, s.args("namenode.NameNode", "-format", "-nonInteractive")...)
	format.Env = environment()
	if out, err := format.CombinedOutput(); err != nil {
		t.Fatalf("format HDFS: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("HDFS:\n%s", s.log.String())
		}
	})
	s.Restart(t)
	if err := s.ask(t.Context(), http.MethodPut, "/webhdfs/v1/test?op=MKDIRS&permission=1777&user.name="+superuser, nil); err != nil {
		t.Fatalf("make a folder in HDFS: %v", err)
	}
	return s
}

func find(t testing.TB) (java, jars string) {
	t.Helper()
	jars = os.Getenv("WEIR_HDFS_JARS")
	if jars == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		jars = filepath.Join(home, ".cache", "weir", "hdfs")
	}
	java, err := exec.LookPath("java")
	if err == nil {
		var found []string
		if found, _ = filepath.Glob(filepath.Join(jars, "hadoop-client-minicluster-*.jar")); len(found) == 0 {
			err = fmt.Errorf("no Hadoop in %s", jars)
		}
	}
	if err != nil {
		text := fmt.Sprintf("NO HDFS TEST: %v. It needs Java 17 and some jars (100 MB, once):\n"+
			"    apt-get install openjdk-17-jre-headless maven && make services", err)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return java, jars
}

// Kill kills both servers with SIGKILL.
func (s *Server) Kill() { s.stop() }

// Restart starts the servers again, on the same folders and new ports.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	// Between the choice of a free port and its use it can be taken.
	var err error
	for range 3 {
		if err = s.start(); err == nil {
			return
		}
		s.stop()
	}
	t.Fatalf("start HDFS: %v", err)
}

func (s *Server) start() error {
	rpc, err := freePort()
	if err != nil {
		return err
	}
	if s.Namenode, err = freePort(); err != nil {
		return err
	}
	if err := s.configure(rpc, s.Namenode); err != nil {
		return err
	}
	// The shell is the head of a process group, and kills the whole of it when
	// its standard input ends, which it does even when this process is killed,
	// or when one of the servers ends.
	script := fmt.Sprintf(`{ %s; kill -9 0; } & { %s; kill -9 0; } & read -r _; kill -9 0`,
		s.command("namenode.NameNode"), s.command("datanode.DataNode"))
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // until the last of them has closed its output
		close(ended)
	}()
	s.stop = func() {
		stdin.Close()
		<-ended
	}
	return s.waitReady(ended)
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func environment() []string { return append(os.Environ(), "HADOOP_USER_NAME="+superuser) }

// args are the arguments with which java runs a server. What makes it fast in
// the long run is left out: it does not live that long.
func (s *Server) args(server string, more ...string) []string {
	return append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Djava.net.preferIPv4Stack=true", "-cp", s.dir + ":" + s.jars + "/*",
		"org.apache.hadoop.hdfs.server." + server}, more...)
}

// command is the same for a shell.
func (s *Server) command(server string) string {
	words := append([]string{s.java}, s.args(server)...)
	for i, word := range words {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// configure writes the settings into the folder that is on the class path.
func (s *Server) configure(rpc, http string) error {
	site := "<configuration>\n"
	for _, p := range [][2]string{
		{"fs.defaultFS", "hdfs://" + rpc},
		{"hadoop.tmp.dir", s.dir + "/tmp"},
		{"hadoop.security.group.mapping", "org.apache.hadoop.security.NullGroupsMapping"}, // else it starts processes
		{"ipc.client.connect.retry.interval", "100"},                                      // ms: the datanode is up first
		{"dfs.namenode.rpc-address", rpc},
		{"dfs.namenode.http-address", http},
		{"dfs.namenode.name.dir", "file://" + s.dir + "/name"},
		{"dfs.namenode.safemode.extension", "0"},
		{"dfs.namenode.datanode.registration.ip-hostname-check", "false"},
		{"dfs.datanode.data.dir", "file://" + s.dir + "/data"},
		{"dfs.datanode.address", "127.0.0.1:0"},
		{"dfs.datanode.http.address", "127.0.0.1:0"},
		{"dfs.datanode.ipc.address", "127.0.0.1:0"},
		{"dfs.datanode.hostname", "127.0.0.1"},
		{"dfs.replication", "1"},
		// A file is closed when the namenode has heard of its last block, and the
		// datanode asks it again after so many ms, then twice as many, and so on,
		// so many times. The defaults are 400 and 5, for what takes one or two ms.
		{"dfs.client.block.write.locateFollowingBlock.initial.delay.ms", "2"},
		{"dfs.client.block.write.locateFollowingBlock.retries", "13"},
	} {
		site += fmt.Sprintf("<property><name>%s</name><value>%s</value></property>\n", p[0], p[1])
	}
	site += "</configuration>\n"
	logging := "log4j.rootLogger=WARN, stderr\n" +
		"log4j.logger.org.apache.hadoop.hdfs.StateChange=ERROR\n" + // each refused rename
		"log4j.appender.stderr=org.apache.log4j.ConsoleAppender\n" +
		"log4j.appender.stderr.target=System.err\n" +
		"log4j.appender.stderr.layout=org.apache.log4j.PatternLayout\n" +
		"log4j.appender.stderr.layout.ConversionPattern=%d{ABSOLUTE} %p %c{1}: %m%n\n"
	for name, text := range map[string]string{"hdfs-site.xml": site, "log4j.properties": logging} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) waitReady(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("the server ended:\n%s", s.log.String())
		case <-ctx.Done():
			return fmt.Errorf("not ready after 2 min: %w", err)
		}
	}
}

// ready returns nil when the namenode serves WebHDFS, the datanode has told it
// what it has, and so it takes writes.
func (s *Server) ready(ctx context.Context) error {
	if err := s.ask(ctx, http.MethodGet, "/webhdfs/v1/?op=GETFILESTATUS", nil); err != nil {
		return err
	}
	var state struct {
		Beans []struct {
			FSState       string
			CapacityTotal int64
		}
	}
	if err := s.ask(ctx, http.MethodGet, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState", &state); err != nil {
		return err
	}
	if len(state.Beans) == 0 || state.Beans[0].FSState != "Operational" || state.Beans[0].CapacityTotal == 0 {
		return errors.New("no datanode, or safe mode")
	}
	return nil
}

func (s *Server) ask(ctx context.Context, method, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Namenode+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// NewFolder returns the path of a folder that does not exist yet, and that the
// user of URL may make.
func (s *Server) NewFolder() string { return "/test/" + strings.ToLower(rand.Text()) }

// URL returns the URL of a folder for storage/hdfs and storage/open.
func (s *Server) URL(folder string) string {
	return "hdfs://" + s.Namenode + folder + "?user=" + user
}
