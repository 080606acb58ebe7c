// Checks and makes cosignatures with code that nobody of this project wrote.
//
// `cosignatures check FILE` prints `NAME valid` or `NAME invalid` per vector; `cosignatures sign`
// reads private keys, an empty line and a checkpoint's text, and prints the signed note.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

type vector struct {
	Name  string   `json:"name"`
	Vkeys []string `json:"vkeys"`
	Note  string   `json:"note"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "check" {
		check(os.Args[2])
	} else if len(os.Args) == 2 && os.Args[1] == "sign" {
		sign()
	} else {
		log.Fatal("cosignatures check FILE | sign")
	}
}

func check(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		log.Fatal(err)
	}
	for _, v := range vectors {
		var verifiers []note.Verifier
		for _, vkey := range v.Vkeys {
			verifier, err := cosign.NewVerifier(vkey)
			if err != nil {
				log.Fatalf("%s: %v", v.Name, err)
			}
			verifiers = append(verifiers, verifier)
		}
		opened, err := note.Open([]byte(v.Note), note.VerifierList(verifiers...))
		result := "invalid"
		if err == nil && len(opened.Sigs) == len(v.Vkeys) {
			result = "valid"
		}
		fmt.Println(v.Name, result)
	}
}

func sign() {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	keys, text, _ := strings.Cut(string(data), "\n\n")
	var signers []note.Signer
	for _, skey := range strings.Split(keys, "\n") {
		signer, err := cosign.NewSignerForCosignatureV1(skey)
		if err != nil {
			log.Fatal(err)
		}
		signers = append(signers, signer)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(signed)
}
