// Package page serves web pages about a cluster on the admin port: nodes, gateways,
// topics, groups, recent errors and records. It changes nothing.
//
// The package gets all data through the port itself: each page requests it on behalf of
// its reader (admin.Guard.Ask). So a page shows nothing that its reader may not read,
// and a standby's page has the owner's data. Pages are HTML that this node renders,
// with one style sheet and one small script, which reloads the page from time to time.
// Data from devices and clients is shown as text, never as markup.
package page
