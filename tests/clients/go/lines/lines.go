// Package lines is what the Go drivers share: a command per line in, an answer per line out. See ../../DRIVERS.md.
package lines

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"time"
)

// Record is a record as the protocol writes it.
type Record struct {
	Partition     int32    `json:"partition"`
	Offset        int64    `json:"offset"`
	Timestamp     *int64   `json:"timestamp"`
	TimestampType string   `json:"timestamp_type,omitempty"`
	Key           *[]byte  `json:"key"`
	Value         *[]byte  `json:"value"`
	Headers       []Header `json:"headers"`
}

// Header is a pair in the protocol: its name as plain text, its value in base64 or null.
type Header struct {
	Key   string
	Value []byte
}

// MarshalJSON writes the pair.
func (h Header) MarshalJSON() ([]byte, error) {
	pair := [2]any{h.Key, nil}
	if h.Value != nil {
		pair[1] = h.Value
	}
	return json.Marshal(pair)
}

// UnmarshalJSON reads the pair.
func (h *Header) UnmarshalJSON(text []byte) error {
	var pair [2]*string
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	h.Key = *pair[0]
	if pair[1] == nil {
		return nil
	}
	value, err := base64.StdEncoding.DecodeString(*pair[1])
	h.Value = value
	return err
}

// Bytes is a field that may be null.
func Bytes(field *[]byte) []byte {
	if field == nil {
		return nil
	}
	return *field
}

// Field is Bytes' inverse.
func Field(bytes []byte) *[]byte {
	if bytes == nil {
		return nil
	}
	return &bytes
}

// Command is any command; which fields it has depends on Op.
type Command struct {
	Op            string            `json:"op"`
	Topic         string            `json:"topic"`
	Partition     int32             `json:"partition"`
	Partitions    int32             `json:"partitions"`
	Offset        int64             `json:"offset"`
	Count         int               `json:"count"`
	TimeoutMs     int               `json:"timeout_ms"`
	SessionMs     int               `json:"session_timeout_ms"`
	Codec         string            `json:"codec"`
	Idempotent    *bool             `json:"idempotent"`
	Records       []Record          `json:"records"`
	Configs       map[string]string `json:"configs"`
	Timestamps    []int64           `json:"timestamps"`
	Group         string            `json:"group"`
	Protocol      string            `json:"protocol"`
	Cooperative   bool              `json:"cooperative"`
	Instance      string            `json:"instance"`
	Member        string            `json:"member"`
	Producer      string            `json:"producer"`
	Transactional string            `json:"transactional"`
	Committed     bool              `json:"committed"`
	Commit        bool              `json:"commit"`
	Rate          int64             `json:"rate"`
	Bytes         int               `json:"bytes"`
	Path          string            `json:"path"`
}

// Timeout is the command's timeout, or what it is without one.
func (c *Command) Timeout(otherwise time.Duration) time.Duration {
	if c.TimeoutMs > 0 {
		return time.Duration(c.TimeoutMs) * time.Millisecond
	}
	return otherwise
}

// Session is the session timeout of a member.
func (c *Command) Session() time.Duration {
	if c.SessionMs > 0 {
		return time.Duration(c.SessionMs) * time.Millisecond
	}
	return 10 * time.Second
}

// Answer is what a command comes to.
type Answer = map[string]any

// Serve obeys commands until the input ends.
func Serve(act func(*Command) (Answer, error)) {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var c Command
		err = json.Unmarshal(line, &c)
		var ok Answer
		if err == nil {
			ok, err = act(&c)
		}
		if err != nil {
			_ = out.Encode(Answer{"error": err.Error()})
		} else {
			_ = out.Encode(Answer{"ok": ok})
		}
	}
}

// Sorted are the partitions in order, never null.
func Sorted(partitions []int32) []int32 {
	list := append([]int32{}, partitions...)
	slices.Sort(list)
	return list
}
