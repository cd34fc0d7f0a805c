package hostile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/record"
)

// kafkaClient is a connection that speaks Kafka, one request at a time.
type kafkaClient struct {
	nc net.Conn
	br *bufio.Reader
	id int32
}

// dialKafka connects from a host of the loopback interface.
func dialKafka(addr, host string) (*kafkaClient, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &kafkaClient{nc: nc, br: bufio.NewReader(nc)}, nil
}

func (c *kafkaClient) send(q kmsg.Request) error {
	c.id++
	_, err := c.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, q, c.id))
	return err
}

// receive reads the next answer. Only those are read whose header has no tags.
func (c *kafkaClient) receive(resp kmsg.Response) error {
	if err := c.nc.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.br, head); err != nil {
		return err
	}
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != c.id {
		return fmt.Errorf("answer %d, not %d", id, c.id)
	}
	body := make([]byte, binary.BigEndian.Uint32(head)-4)
	if _, err := io.ReadFull(c.br, body); err != nil {
		return err
	}
	return resp.ReadFrom(body)
}

// versions is a round trip of ApiVersions.
func (c *kafkaClient) versions() error {
	if err := c.send(&kmsg.ApiVersionsRequest{Version: 2}); err != nil {
		return err
	}
	return c.receive(&kmsg.ApiVersionsResponse{Version: 2})
}

var errLogin = errors.New("login fails")

// logIn logs in by PLAIN.
func (c *kafkaClient) logIn(user, password string) error {
	if err := c.send(&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "PLAIN"}); err != nil {
		return err
	}
	if err := c.receive(&kmsg.SASLHandshakeResponse{Version: 1}); err != nil {
		return err
	}
	if err := c.send(&kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00" + user + "\x00" + password)}); err != nil {
		return err
	}
	resp := &kmsg.SASLAuthenticateResponse{Version: 1}
	if err := c.receive(resp); err != nil {
		return err
	}
	if resp.ErrorCode != 0 {
		return fmt.Errorf("%w of %s: error %d", errLogin, user, resp.ErrorCode)
	}
	return nil
}

// batch is a record batch with one value.
func batch(codec record.Codec, value []byte) ([]byte, error) {
	b := record.NewBuilder(codec)
	if err := b.Append(&record.Record{Timestamp: time.Now().UnixMilli(), Value: value}); err != nil {
		return nil, err
	}
	return b.Build()
}

func produceRequest(topic string, batch []byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = 8, -1, 30_000
	q.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	return q
}

// produce is a round trip of Produce, acks=all.
func (c *kafkaClient) produce(topic string, batch []byte) error {
	if err := c.send(produceRequest(topic, batch)); err != nil {
		return err
	}
	resp := &kmsg.ProduceResponse{Version: 8}
	if err := c.receive(resp); err != nil {
		return err
	}
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		return fmt.Errorf("produce to %s: error %d", topic, code)
	}
	return nil
}

// fetchRequest asks for one partition, as many times as it takes for so many bytes.
func fetchRequest(topic string, wait, least, size int) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.Version, q.MaxWaitMillis, q.MinBytes, q.MaxBytes = 11, int32(wait), int32(least), 64<<20
	t := kmsg.FetchRequestTopic{Topic: topic}
	for n := 0; n == 0 || n < size; n += 28 {
		t.Partitions = append(t.Partitions, kmsg.FetchRequestTopicPartition{CurrentLeaderEpoch: -1, PartitionMaxBytes: 64 << 20})
	}
	q.Topics = []kmsg.FetchRequestTopic{t}
	return q
}
