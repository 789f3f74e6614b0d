package inside

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// registryAddr is where CRI-O finds the only two images there are.
const (
	registryAddr = "127.0.0.1:5000"
	image        = registryAddr + "/busybox:latest"
	pauseImage   = registryAddr + "/pause:latest"
)

// registry is as much of a container registry as CRI-O asks for.
type registry struct {
	blobs     map[string][]byte // by digest
	manifests map[string][]byte // by repository
}

// serveImages serves busybox with all its applets, once as it is and once as
// pause image. That one is stopped by KILL: sleep as pid 1 ignores TERM.
func serveImages(t *testing.T) {
	t.Helper()
	r := &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}}
	layer := busyboxLayer(t)
	r.add(t, "busybox", layer, map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/bin"}})
	r.add(t, "pause", layer, map[string]any{"Cmd": []string{"/bin/sleep", "1000000"}, "StopSignal": "SIGKILL"})
	listener, err := net.Listen("tcp", registryAddr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func (r *registry) add(t *testing.T, name string, layer []byte, run map[string]any) {
	t.Helper()
	config := jsonBytes(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": run,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	r.blobs[digest(layer)], r.blobs[digest(config)] = layer, config
	describe := func(kind string, blob []byte) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": digest(blob), "size": len(blob)}
	}
	r.manifests[name] = jsonBytes(t, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": describe("config.v1+json", config), "layers": []any{describe("layer.v1.tar", layer)},
	})
}

// ServeHTTP answers /v2/, /v2/NAME/manifests/TAG and /v2/NAME/blobs/DIGEST.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/v2/"), "/")
	var answer []byte
	switch {
	case req.URL.Path == "/v2/":
		return
	case len(parts) == 3 && parts[1] == "manifests":
		answer = r.manifests[parts[0]]
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digest(answer))
	case len(parts) == 3 && parts[1] == "blobs":
		answer = r.blobs[parts[2]]
	}
	if answer == nil {
		http.NotFound(w, req)
		return
	}
	_, _ = w.Write(answer)
}

func busyboxLayer(t *testing.T) []byte {
	t.Helper()
	path := lookPath(t, "busybox")
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func digest(blob []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(blob)) }

func jsonBytes(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
