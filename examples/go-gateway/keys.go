package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// VendorKey returns the routing key of a vendorId, whose case does not count.
func VendorKey(vendorID string) string {
	return key(strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, vendorID))
}

// StationKey returns the routing key of a station's id, whose case counts.
func StationKey(stationID string) string { return key(stationID) }

func key(text string) string {
	var key strings.Builder
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
			key.WriteByte(c)
		default:
			fmt.Fprintf(&key, "_%02x", c)
		}
	}
	if key.Len() <= 200 {
		return key.String()
	}
	return fmt.Sprintf("%s_x%x", key.String()[:100], sha256.Sum256([]byte(key.String())))
}
