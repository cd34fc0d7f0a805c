// Command peer is the MQTT server that weir-edge is measured against: mochi as
// it comes, without any log, or with a log that is synced before every PUBACK.
package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	select {}
}

// start serves on a free port, which it prints. With a file as argument every
// message is written to it and synced.
func start(args []string) error {
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	h := &hook{}
	if len(args) > 0 {
		file, err := os.Create(args[0])
		if err != nil {
			return err
		}
		h.file = file
	}
	if err := server.AddHook(h, nil); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := server.AddListener(listeners.NewNet("tcp", l)); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return nil
}

// hook accepts every client and, with a file, appends every message to it and syncs it,
// one by one.
type hook struct {
	mqtt.HookBase
	mu   sync.Mutex // guards file
	file *os.File
}

func (h *hook) ID() string { return "peer" }

func (h *hook) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck || b == mqtt.OnPublish && h.file != nil
}

func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

func (h *hook) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.file.Write(append([]byte(pk.TopicName), pk.Payload...)); err != nil {
		return pk, packets.ErrRejectPacket
	}
	if err := h.file.Sync(); err != nil {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}
