// Whether a condition of a KServe InferenceGraph is met, as KServe's router asks: does the path exist in the answer?
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/tidwall/gjson"
)

func main() {
	answer, _ := io.ReadAll(os.Stdin)
	fmt.Println(gjson.ValidBytes(answer) && gjson.GetBytes(answer, os.Args[1]).Exists())
}
