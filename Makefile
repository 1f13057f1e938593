# Thin fronts for people: the work is done by cargo, by rctl and by the scripts in deploy/.

PROFILE ?= dev
NODES ?= 1
TARGET := $(or $(CARGO_TARGET_DIR),target)
OUT := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
RCTL := $(OUT)/rctl

.PHONY: build images up down test lint bench fuzz

# All programs, and the small static ones for images beside them.
build:
	cargo build --workspace --bins --profile $(PROFILE)
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -p rutter-e2e-images --target $(HOST) --release --target-dir $(TARGET)/static
	install -m 755 $(TARGET)/static/$(HOST)/release/rutter-pause $(TARGET)/static/$(HOST)/release/rutter-echo $(OUT)/

images: build
	$(RCTL) cluster build-image --name rutter.example/echo:1 --file $(OUT)/rutter-echo:/echo --output $(OUT)/images/echo-1.tar
	$(RCTL) cluster build-image --name rutter.example/echo:2 --file $(OUT)/rutter-echo:/echo --output $(OUT)/images/echo-2.tar
	$(RCTL) cluster build-image --name rutter.example/busybox:1 --file /bin/busybox:/bin/busybox --output $(OUT)/images/busybox-1.tar \
	  $$(/bin/busybox --list | grep -v '^busybox$$' | sed 's|.*|--link /bin/&:busybox|') --entrypoint /bin/sh

# A cluster with the example application on it.
up:
	deploy/install-packages
	$(MAKE) images
	$(RCTL) cluster up --nodes $(NODES) --image $(OUT)/images/echo-1.tar --image $(OUT)/images/echo-2.tar --image $(OUT)/images/busybox-1.tar
	$(RCTL) apply -f deploy/examples/deployment.yml
	$(RCTL) rollout status deployment/echo --timeout=120s
	$(RCTL) get pods -l app=echo -o wide
	@echo
	@echo "Try:   curl http://172.30.0.2:30080/"
	@echo "       export PATH=$(abspath $(OUT)):\$$PATH"
	@echo "       rctl scale deployment/echo --replicas=5 && rctl get pods -w"
	@echo "       make down"

down:
	$(RCTL) cluster down

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test:
	deploy/install-packages
	$(MAKE) lint
	cargo nextest run --workspace --no-fail-fast
	$(MAKE) images
	OUT=$(abspath $(OUT)) e2e/run

# The API server measured: over the embedded store, over etcd, and beside any other one, such as
#   make bench AGAINST='--target other:binary=/path/to/kube-apiserver,store=etcd,etcd=/path/to/etcd'
#   make bench AGAINST='--target other:kubeconfig=/path/to/kubeconfig,pid=4711' ROUNDS=3
AGAINST ?=
ROUNDS ?= 1
ETCD ?= etcd
BENCH_DIR ?= $(TARGET)/bench
bench:
	cargo build --profile dist -p rutter-apiserver -p rutter-bench
	$(TARGET)/dist/rutter-bench run --rounds $(ROUNDS) --dir $(BENCH_DIR) --json $(BENCH_DIR).json $(BENCHFLAGS) \
	  --target embedded:binary=$(TARGET)/dist/rutter-apiserver,store=embedded \
	  --target etcd:binary=$(TARGET)/dist/rutter-apiserver,store=etcd,etcd=$(ETCD) $(AGAINST)

# The fuzz targets (fuzz/targets), two at a time: make fuzz TARGETS='apply cel' SECONDS_EACH=60
TARGETS ?=
SECONDS_EACH ?= 600
fuzz:
	FUZZ_DIR=$(abspath $(TARGET))/fuzz fuzz/run $(SECONDS_EACH) $(TARGETS)
