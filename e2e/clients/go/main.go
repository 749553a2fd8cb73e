// The same with OpenFeature's Go SDK and its OFREP provider.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	of "github.com/open-feature/go-sdk/openfeature"
)

type question struct {
	URL     string      `json:"url"`
	Headers [][2]string `json:"headers"`
	Asked   []asked     `json:"asked"`
}

// A kind, a key, a default and a context.
type asked [4]json.RawMessage

type answer struct {
	Value        any          `json:"value"`
	Variant      string       `json:"variant"`
	Reason       of.Reason    `json:"reason"`
	ErrorCode    of.ErrorCode `json:"errorCode"`
	FlagMetadata any          `json:"flagMetadata"`
}

func main() {
	var question question
	must(json.NewDecoder(os.Stdin).Decode(&question))
	options := []ofrep.Option{}
	for _, header := range question.Headers {
		options = append(options, ofrep.WithHeader(header[0], header[1]))
	}
	must(of.SetProviderAndWait(ofrep.NewProvider(question.URL, options...)))
	client := of.NewDefaultClient()
	answers := []answer{}
	for _, asked := range question.Asked {
		answers = append(answers, evaluate(client, asked))
	}
	must(json.NewEncoder(os.Stdout).Encode(answers))
	of.Shutdown()
}

// An evaluation that fails is an error beside the details, which say the same.
func evaluate(client *of.Client, asked asked) answer {
	var kind, key string
	var attributes map[string]any
	must(json.Unmarshal(asked[0], &kind))
	must(json.Unmarshal(asked[1], &key))
	must(json.Unmarshal(asked[3], &attributes))
	unit := of.NewTargetlessEvaluationContext(attributes)
	if id, ok := attributes["targetingKey"].(string); ok {
		delete(attributes, "targetingKey")
		unit = of.NewEvaluationContext(id, attributes)
	}
	ctx := context.Background()
	switch kind {
	case "boolean":
		details, _ := client.BooleanValueDetails(ctx, key, read[bool](asked[2]), unit)
		return shown(details)
	case "string":
		details, _ := client.StringValueDetails(ctx, key, read[string](asked[2]), unit)
		return shown(details)
	case "number":
		details, _ := client.FloatValueDetails(ctx, key, read[float64](asked[2]), unit)
		return shown(details)
	default:
		details, _ := client.ObjectValueDetails(ctx, key, read[any](asked[2]), unit)
		return shown(details)
	}
}

func read[T any](text json.RawMessage) (value T) {
	must(json.Unmarshal(text, &value))
	return value
}

func shown[T any](details of.GenericEvaluationDetails[T]) answer {
	return answer{details.Value, details.Variant, details.Reason, details.ErrorCode, details.FlagMetadata}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
