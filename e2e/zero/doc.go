// Package zero tests a node that ends when nobody uses it, and that is started again by
// whoever comes to a socket: clients and gateways lose nothing, whether it slept, was killed
// or is on its way. The benchmark measures how long the first of them waits.
package zero
