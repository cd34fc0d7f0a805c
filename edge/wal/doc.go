// Package wal is the gateway's local buffer: records that were accepted from
// devices and that the cloud has not acknowledged yet, on this machine's disk.
//
// # What happens when a batch is appended
//
// Append makes one frame of the batch, writes it behind the newest one of its
// lane and syncs the file. When it returns without an error the batch is
// durable: it survives kill -9 and a power cut. Any error of a write or a sync
// ends the life of the current buffer: the batch is not stored, the buffer is
// sealed behind its last durable record, and a new buffer with a new id takes
// its place. Nothing is ever written twice to the same place.
//
// # Buffers and lanes
//
// Each Open, and each failed write, begins a new buffer. Within a buffer every
// lane has its own sequence, which starts at 1 and only grows, and its own
// files, so lanes never wait for each other. Nothing is appended to a buffer
// of an earlier open: whatever a power cut, a card that lied about a sync or a
// restored image did to it, a sequence is never given out twice.
//
// # Damage
//
// Open always boots. Frames carry checksums and their own place, so reading
// skips what is damaged up to the next intact frame. The sequences in between
// are a hole, and a hole is an Item like a record: a Gap that says which
// sequences are missing, written down durably before it is handed out, so that
// it stays one even if the bytes come back.
//
// # What is missing
//
// A file or a folder that is gone is not one that never was. Beside the buffers
// lie the names of those that must be there, and how far the newest came; Open
// makes what is gone again as a buffer or lane of which every record is a hole.
//
// FORMAT.md beside this file has the byte tables.
package wal
