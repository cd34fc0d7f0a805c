package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// verify reads the topic from its beginning and compares it with what was sent. It returns
// errUnclean if they do not agree.
func verify(ctx context.Context, args, environ []string, stdout io.Writer) error {
	fs := pflag.NewFlagSet("firmware-sim verify", pflag.ContinueOnError)
	kafka := fs.StringSlice("kafka", []string{"127.0.0.1:9092"}, "`address` of a Kafka listener of the cloud, host:port")
	topic := fs.String("topic", "sensors", "Kafka `topic` that the readings went to")
	sent := fs.String("sent", "", "`file` that firmware-sim --sent wrote (required)")
	group := fs.String("group", "", "consumer `group` to read as (default: none, it reads all partitions from the beginning)")
	var patience time.Duration
	configs.DurationVar(fs, &patience, "wait", 15*time.Second, "`time` without a new reading after which those that are missing count as lost; raise it while gateways are still sending")
	output := fs.StringP("output", "o", "text", "`format` of the report: text or json. The last line is JSON in both")
	p := configs.Program{
		Name:    "firmware-sim verify",
		Summary: "firmware-sim verify compares what the devices sent with what comes out of Kafka. It ends with exit code 1\nif a reading was lost, duplicated or out of order, and with 2 if it could not find out.",
		Usage:   "firmware-sim verify --sent FILE [flags]",
		Notes: "lost        acknowledged by the gateway, not in the topic, and not reported in topic weir.gaps\n" +
			"duplicated  one place of a gateway's log at two offsets, or a copy that no device sent\n" +
			"resent      copies that a device sent again because it got no acknowledgement, as MQTT says\n" +
			"reread      the same offset was read again, as can happen to consumer groups\n" +
			"disordered  readings whose first copy came after a later reading of the same device\n\n" +
			"Run the gateways with --source-header. Without it, a copy counts as a duplicate if a reading came\nout more often than its device sent it.",
	}
	if err := configs.Load(p, fs, args, environ, stdout); err != nil {
		return err
	}
	switch {
	case fs.NArg() > 0:
		return fmt.Errorf("verify takes no argument %q", fs.Arg(0))
	case *sent == "":
		return errors.New("verify needs --sent FILE, written by firmware-sim --sent FILE")
	case *output != "text" && *output != "json":
		return fmt.Errorf("--output %q is neither text nor json", *output)
	}
	auditor := audit.New()
	if err := load(*sent, auditor); err != nil {
		return err
	}
	reader := audit.Reader{Brokers: *kafka, Topic: *topic, Group: *group}
	deadline, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := reader.Ping(deadline); err != nil {
		return err
	}
	if err := reader.Settle(ctx, auditor, patience); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted before the audit was complete")
	}
	report := auditor.Report()
	if *output == "text" {
		printReport(stdout, report)
	}
	if err := json.NewEncoder(stdout).Encode(report); err != nil {
		return err
	}
	if !report.Clean() {
		return errUnclean
	}
	return nil
}

func load(path string, a *audit.Auditor) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open --sent: %w", err)
	}
	defer file.Close()
	readings := 0
	if err := device.ReadLedger(file, func(r device.Reading) { readings++; a.Ledger(r) }); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if readings == 0 {
		return fmt.Errorf("%s has no readings: there is nothing to compare", path)
	}
	return nil
}

func printReport(w io.Writer, r audit.Report) {
	fmt.Fprintf(w, "sent        %9d\nacked       %9d\nreceived    %9d\nlost        %9d\nreported    %9d\n", r.Sent, r.Acked, r.Received, r.Lost, r.Reported)
	fmt.Fprintf(w, "duplicated  %9d\nresent      %9d\nreread      %9d\ndisordered  %9d\nforeign     %9d\n", r.Duplicated, r.Resent, r.Reread, r.Disordered, r.Foreign)
	fmt.Fprintf(w, "latency p50 %9.1f ms   until this audit read them: only meaningful while the devices run\nlatency p99 %9.1f ms\n", r.P50, r.P99)
}
