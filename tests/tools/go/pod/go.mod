module remote-istio/tools/pod

go 1.26.0
