package main

import (
	"encoding/json"
	"os"
	"testing"
)

// The vectors of the wire contract.
func TestKeys(t *testing.T) {
	for _, of := range []struct {
		id  string
		key func(string) string
	}{{"vendor", VendorKey}, {"station", StationKey}} {
		text, err := os.ReadFile("../../tests/vectors/" + of.id + "_key.json")
		if err != nil {
			t.Fatal(err)
		}
		var vectors []map[string]string
		if err := json.Unmarshal(text, &vectors); err != nil {
			t.Fatal(err)
		}
		for _, vector := range vectors {
			if got := of.key(vector[of.id+"_id"]); got != vector["key"] {
				t.Errorf("%s: %s, not %s", vector["why"], got, vector["key"])
			}
		}
	}
}
