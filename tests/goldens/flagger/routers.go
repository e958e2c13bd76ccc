//go:build ignore

// Plays Canaries of routers.json to Flagger's own routers, and writes down what they make of them.
//
// In a checkout of github.com/fluxcd/flagger at v1.44.0:
//
//	mkdir cmd/record && grep -v '^//go:build' routers.go > cmd/record/main.go
//	go run ./cmd/record < routers.json > new.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	flagger "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	routing "github.com/fluxcd/flagger/pkg/client/clientset/versioned/fake"
	"github.com/fluxcd/flagger/pkg/router"
)

// What is random in Flagger, as our tests choose it: the values of the canary's and the primary's cookie.
const canaryToken, primaryToken = "abcdefGHIJ", "ABCDEFghij"

type play struct {
	Provider string          `json:"provider"`
	Service  json.RawMessage `json:"service"`
	Analysis json.RawMessage `json:"analysis"`
	Moves    [][3]any        `json:"moves"`
	Steps    []any           `json:"steps"`
}

func main() {
	var plays []play
	must(json.NewDecoder(os.Stdin).Decode(&plays))
	lines := []string{}
	for _, each := range plays {
		each.Steps = steps(each)
		lines = append(lines, text(each))
	}
	fmt.Printf("[\n%s\n]\n", strings.Join(lines, ",\n"))
}

func steps(given play) []any {
	objects := routing.NewSimpleClientset()
	logger := zap.NewNop().Sugar()
	factory := router.NewFactory(nil, fake.NewSimpleClientset(), objects, nil, "", "", logger, objects, true)
	routes := factory.MeshRouter(given.Provider, "app")
	canary := canaryOf(given)
	must(routes.Reconcile(canary.DeepCopy()))
	seen := []any{look(given.Provider, objects, routes, canary)}
	for _, move := range given.Moves {
		must(routes.SetRoutes(canary, int(move[0].(float64)), int(move[1].(float64)), move[2].(bool)))
		seen = append(seen, look(given.Provider, objects, routes, canary))
	}
	return seen
}

func canaryOf(given play) *flagger.Canary {
	canary := &flagger.Canary{ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test"}}
	canary.Spec.TargetRef = flagger.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"}
	must(json.Unmarshal(given.Service, &canary.Spec.Service))
	must(json.Unmarshal(given.Analysis, &canary.Spec.Analysis))
	canary.Status.Phase = flagger.CanaryPhaseProgressing
	return canary
}

func look(provider string, objects *routing.Clientset, routes router.Interface, canary *flagger.Canary) any {
	var route any
	var err error
	switch provider {
	case "istio":
		route, err = objects.NetworkingV1beta1().VirtualServices("test").Get(context.TODO(), "podinfo", metav1.GetOptions{})
	case "gatewayapi:v1":
		route, err = objects.GatewayapiV1().HTTPRoutes("test").Get(context.TODO(), "podinfo", metav1.GetOptions{})
	default:
		route, err = objects.GatewayapiV1beta1().HTTPRoutes("test").Get(context.TODO(), "podinfo", metav1.GetOptions{})
	}
	must(err)
	primary, share, mirrored, err := routes.GetRoutes(canary)
	must(err)
	cookies := map[string]string{}
	for name, cookie := range map[string]string{
		"sessionAffinityCookie":         canary.Status.SessionAffinityCookie,
		"previousSessionAffinityCookie": canary.Status.PreviousSessionAffinityCookie,
		"primarySessionAffinityCookie":  canary.Status.PrimarySessionAffinityCookie,
	} {
		if cookie != "" {
			cookies[name] = cookie
		}
	}
	var found struct {
		Spec     any
		Metadata struct{ Labels, Annotations map[string]string }
	}
	must(json.Unmarshal([]byte(text(route)), &found))
	said := text(map[string]any{
		"spec":        found.Spec,
		"labels":      found.Metadata.Labels,
		"annotations": found.Metadata.Annotations,
		"routes":      []any{primary, share, mirrored},
		"status":      cookies,
	})
	for name, cookie := range cookies {
		token := canaryToken
		if strings.HasPrefix(name, "primary") {
			token = primaryToken
		}
		_, value, _ := strings.Cut(cookie, "=")
		said = strings.ReplaceAll(said, value, token)
	}
	return json.RawMessage(said)
}

func text(value any) string {
	written, err := json.Marshal(value)
	must(err)
	return string(written)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
