// Package join is how a gateway and a cloud come to trust each other: the join
// token, the cloud's certificate authority, the certificates that it signs, the
// TLS configurations of both ends, and the file in which a gateway keeps its
// identity.
//
// A fresh cloud makes its own CA and a token that carries the CA's fingerprint
// and a secret. The gateway checks the cloud by the fingerprint before it shows
// the secret, and gets a certificate whose name is the gateway id. From then on
// both ends verify certificates of that one CA and nothing else: the system's
// roots play no part.
package join
