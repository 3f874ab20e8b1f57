//go:build tools

// Package tools pins the node's Kubernetes commands, of a version that Debian's container runtime serves.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
