package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/edge"
)

// routesCommand returns the command weir-edge routes test.
func routesCommand(args, environ []string, stdout, stderr io.Writer) error {
	var file, gateway, client string
	var qos uint8
	var retain bool
	fs := pflag.NewFlagSet("weir-edge routes test", pflag.ContinueOnError)
	fs.StringVar(&file, "routes", "", "YAML `file` with the routes, as for weir-edge (default: none, as without --routes)")
	fs.StringVar(&gateway, "gateway-id", "", "`id` of the gateway (default: the host name)")
	fs.StringVar(&client, "client", "device-1", "client `id` of the device that publishes")
	fs.Uint8Var(&qos, "qos", 1, "`QoS` of the message: 0, 1 or 2")
	fs.BoolVar(&retain, "retain", false, "test a retained message")
	p := configs.Program{
		Name: "weir-edge routes test", Usage: "weir-edge routes test [flags] TOPIC", Also: mainKeys(),
		Summary: "weir-edge routes test shows where a message goes: which route matches, and the Kafka topic, key, lane and\nheaders of its record. It warns of routes that can never match.",
		Notes:   "It ends with exit code 1 if the message stays on the gateway. --config may name the file of weir-edge.\n\nExample:\n  weir-edge routes test --routes /etc/weir/routes.yaml plant/north/alarms/fire",
	}
	if len(args) == 0 || args[0] != "test" && args[0] != "--help" && args[0] != "-h" {
		return errors.New("routes takes a command: weir-edge routes test TOPIC (weir-edge routes test --help says more)")
	}
	if args[0] == "test" {
		args = args[1:]
	}
	if err := configs.Load(p, fs, args, environ, stdout); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return errors.New("routes test takes one MQTT topic, such as plant/north/alarms/fire")
	}
	if qos > 2 {
		return fmt.Errorf("--qos %d is not 0, 1 or 2", qos)
	}
	var routes edge.Routes
	if file != "" {
		var err error
		if routes, err = edge.LoadRoutes(file); err != nil {
			return err
		}
		for _, warning := range routes.Warnings() {
			fmt.Fprintln(stderr, "weir-edge: warning:", warning)
		}
	}
	return routes.Explain(stdout, edge.Origin{Topic: fs.Arg(0), Client: client, Gateway: cmp.Or(gateway, hostName()), QoS: qos}, retain)
}

// mainKeys are the keys of weir-edge's config file.
func mainKeys() (all []string) {
	var s settings
	fs := pflag.NewFlagSet("weir-edge", pflag.ContinueOnError)
	s.flags(fs)
	fs.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}
