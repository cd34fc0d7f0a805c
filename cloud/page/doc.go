// Package page is what a browser sees of a cluster on the admin port: nodes, gateways,
// topics, groups, recent errors and records. It changes nothing.
//
// It knows nothing but what the port itself answers: each page asks for it in the name
// of its reader (admin.Guard.Ask), so that a page shows nobody more than he may ask
// for, and a standby's page has what the owner says. Pages are HTML that this node
// renders, with one style and one small script, which fetches the page again from time
// to time. Whatever devices and clients have sent is text in it, never markup.
package page
