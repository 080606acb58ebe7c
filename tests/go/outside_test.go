// Package outside reads the ledger's log and its vectors with code that nobody here wrote: Go's own
// notes and tiles, and the transparency-dev libraries. tests/outside.py builds and runs it.
package outside

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"
)

func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("%s is not set", name)
	}
	return value
}

func vectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(setting(t, "CERTLEDGER_VECTORS"), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, valid bool, err error) {
	t.Helper()
	if valid && err != nil {
		t.Errorf("should be accepted: %v", err)
	}
	if !valid && err == nil {
		t.Error("should be refused")
	}
}

// ---- a growing log ----

func fetch(t *testing.T, path string) []byte {
	t.Helper()
	answer, err := http.Get(setting(t, "CERTLEDGER_LOG_URL") + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%s: %s %v", path, answer.Status, err)
	}
	return data
}

type entry struct {
	Kind           string
	Note           string
	CheckpointVkey string `json:"checkpoint_vkey"`
	OperatorVkey   string `json:"operator_vkey"`
}

// TestLog opens the checkpoint, every registry note and every bundle's note of a log, each with the
// keys that the log itself registered before it.
func TestLog(t *testing.T) {
	key, err := note.NewVerifier(setting(t, "CERTLEDGER_VKEY"))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, _, signed, err := log.ParseCheckpoint(fetch(t, "checkpoint"), key.Name(), key)
	if err != nil || len(signed.UnverifiedSigs) > 64 {
		t.Fatal(err)
	}
	var known []note.Verifier
	seen := map[string]int{}
	add := func(vkey string) {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatalf("%s: %v", vkey, err)
		}
		known = append(known, verifier)
	}
	for info := range layout.Range(0, checkpoint.Size, checkpoint.Size) {
		var bundle api.EntryBundle
		path := layout.EntriesPath(info.Index, info.Partial)
		if err := bundle.UnmarshalText(fetch(t, path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, data := range bundle.Entries {
			var e entry
			if err := json.Unmarshal(data, &e); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			seen[e.Kind]++
			switch e.Kind {
			case "genesis":
				if e.CheckpointVkey != os.Getenv("CERTLEDGER_VKEY") {
					t.Errorf("entry 0 names %s", e.CheckpointVkey)
				}
				add(e.OperatorVkey)
			case "registry":
				var change struct{ Vkey string }
				lines := strings.Split(e.Note, "\n")
				if err := json.Unmarshal([]byte(lines[3]), &change); err != nil {
					t.Fatalf("%s: %v", lines[0], err)
				}
				if change.Vkey != "" {
					add(change.Vkey)
				}
				open(t, e.Note, known)
			case "bundle":
				open(t, e.Note, known)
			}
		}
	}
	if seen["bundle"] == 0 || seen["registry"] == 0 {
		t.Errorf("nothing to open: %v", seen)
	}
	fmt.Printf("opened %v of a log of %d\n", seen, checkpoint.Size)
}

func open(t *testing.T, text string, known []note.Verifier) {
	t.Helper()
	opened, err := note.Open([]byte(text), note.VerifierList(known...))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(opened.UnverifiedSigs) != 0 {
		t.Errorf("signed by a key that the log does not know:\n%s", text)
	}
}

// ---- vectors ----

func TestNotes(t *testing.T) {
	var file struct {
		Cases []struct {
			Name, Note, Text string
			Vkeys, Signers   []string
			Valid            bool
		}
	}
	vectors(t, "notes.json", &file)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			var known []note.Verifier
			for _, vkey := range c.Vkeys {
				verifier, err := note.NewVerifier(vkey)
				if err != nil {
					expect(t, c.Valid, err)
					return
				}
				known = append(known, verifier)
			}
			opened, err := note.Open([]byte(c.Note), note.VerifierList(known...))
			expect(t, c.Valid, err)
			if err != nil || !c.Valid {
				return
			}
			var signers []string
			for _, signature := range opened.Sigs {
				signers = append(signers, signature.Name)
			}
			if opened.Text != c.Text || strings.Join(signers, " ") != strings.Join(c.Signers, " ") {
				t.Errorf("text %q by %v", opened.Text, signers)
			}
		})
	}
}

func TestCheckpoints(t *testing.T) {
	var file struct {
		Cases []struct {
			Name, Checkpoint, Vkey, Origin, Root string
			Size                                 uint64
			Valid                                bool
		}
	}
	vectors(t, "checkpoints.json", &file)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			key, err := note.NewVerifier(c.Vkey)
			if err != nil {
				t.Fatal(err)
			}
			checkpoint, rest, _, err := log.ParseCheckpoint([]byte(c.Checkpoint), c.Origin, key)
			if err == nil {
				// what C2SP tlog-checkpoint says and this library leaves to its caller
				err = strict(checkpoint, rest, c.Checkpoint)
			}
			expect(t, c.Valid, err)
			if err == nil && c.Valid &&
				(checkpoint.Size != c.Size || hex.EncodeToString(checkpoint.Hash) != c.Root) {
				t.Errorf("size %d root %x", checkpoint.Size, checkpoint.Hash)
			}
		})
	}
}

func strict(checkpoint *log.Checkpoint, rest []byte, text string) error {
	if len(rest) != 0 {
		return errors.New("extension lines")
	}
	if len(checkpoint.Hash) != sha256.Size {
		return errors.New("a root is 32 bytes")
	}
	if checkpoint.Size > 1<<63-1 {
		return errors.New("a size is below 2^63")
	}
	if !strings.HasPrefix(text, string(checkpoint.Marshal())+"\n") {
		return errors.New("not printed as it was read")
	}
	return nil
}

func TestTiles(t *testing.T) {
	var file struct {
		Trees []struct {
			Size                 uint64
			Root                 string
			HashTiles, Entries   map[string]string
			Consistency          []string
			ConsistentWith       uint64
			RootOfConsistentWith string
		}
	}
	vectors(t, "tiles.json", &file)
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	for _, tree := range file.Trees {
		t.Run(strconv.FormatUint(tree.Size, 10), func(t *testing.T) {
			whole := factory.NewEmptyRange(0)
			// hashes of complete subtrees of 256^level leaves
			rows := map[uint64][][]byte{}
			visit := func(id compact.NodeID, hash []byte) {
				if id.Level%8 == 0 {
					rows[uint64(id.Level/8)] = append(rows[uint64(id.Level/8)], hash)
				}
			}
			var entries [][]byte
			var before []byte
			for n := uint64(0); n < tree.Size; n++ {
				entries = append(entries, []byte(fmt.Sprintf("entry %d", n)))
				hash := rfc6962.DefaultHasher.HashLeaf(entries[n])
				if err := whole.Append(hash, visit); err != nil {
					t.Fatal(err)
				}
				if n+1 == tree.ConsistentWith {
					before, _ = whole.GetRootHash(nil)
				}
			}
			root, err := whole.GetRootHash(nil)
			if err != nil || hex.EncodeToString(root) != tree.Root {
				t.Fatalf("root %x, %v", root, err)
			}
			found := map[string]string{}
			for level, hashes := range rows {
				each(level, hashes, func(path string, part [][]byte) {
					found[path] = sum(bytes.Join(part, nil))
				})
			}
			same(t, "hash tiles", tree.HashTiles, found)
			found = map[string]string{}
			for at := 0; at < len(entries); at += 256 {
				part := entries[at:min(at+256, len(entries))]
				var bundle []byte
				for _, data := range part {
					bundle = append(bundle, byte(len(data)>>8), byte(len(data)))
					bundle = append(bundle, data...)
				}
				path := layout.EntriesPath(uint64(at/256), uint8(len(part)%256))
				found[path] = sum(bundle)
				var read api.EntryBundle
				if err := read.UnmarshalText(bundle); err != nil || len(read.Entries) != len(part) {
					t.Errorf("%s: %v", path, err)
				}
			}
			same(t, "entry bundles", tree.Entries, found)
			if tree.ConsistentWith == 0 {
				return
			}
			if hex.EncodeToString(before) != tree.RootOfConsistentWith {
				t.Errorf("root at %d: %x", tree.ConsistentWith, before)
			}
			var path [][]byte
			for _, text := range tree.Consistency {
				hash, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				path = append(path, hash)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, tree.ConsistentWith, tree.Size,
				path, before, root); err != nil {
				t.Error(err)
			}
		})
	}
}

func each(level uint64, hashes [][]byte, use func(string, [][]byte)) {
	for at := 0; at < len(hashes); at += 256 {
		part := hashes[at:min(at+256, len(hashes))]
		use(layout.TilePath(level, uint64(at/256), uint8(len(part)%256)), part)
	}
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

func same(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d wanted, %d made", what, len(want), len(got))
	}
	for path, hash := range want {
		if got[path] != hash {
			t.Errorf("%s %s: %s wanted, %s made", what, path, hash, got[path])
		}
	}
}

func TestProofs(t *testing.T) {
	var file struct {
		Cases []struct {
			Name, Proof, Vkey, Entry string
			Valid                    bool
		}
	}
	vectors(t, "proofs.json", &file)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			expect(t, c.Valid, checkProof(c.Proof, c.Vkey, []byte(c.Entry)))
		})
	}
}

// checkProof is C2SP tlog-proof@v1 without the extra line, from its text.
func checkProof(text, vkey string, entry []byte) error {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	head, signed, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || len(lines) > 65 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("no tlog-proof")
	}
	number, found := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseUint(number, 10, 63)
	if !found || err != nil || strconv.FormatUint(index, 10) != number {
		return errors.New("no index")
	}
	var path [][]byte
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != sha256.Size {
			return errors.New("no hash")
		}
		path = append(path, hash)
	}
	checkpoint, rest, _, err := log.ParseCheckpoint([]byte(signed), key.Name(), key)
	if err != nil {
		return err
	}
	if err := strict(checkpoint, rest, signed); err != nil {
		return err
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, index, checkpoint.Size,
		rfc6962.DefaultHasher.HashLeaf(entry), path, checkpoint.Hash)
}
