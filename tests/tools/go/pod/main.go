// Package main is what the pods of a real node run: it waits, or listens and answers who it is, or asks another.
//
//	pod wait                      the sandbox of every pod
//	pod serve PORT...             answers every connection with the pod's name and address
//	pod ask HOST:PORT             resolves, connects, prints the address and the answer
//	pod follow HOST:PORT          asks again and again and prints what has changed, with the milliseconds since 1970
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// For one question, with the lookup of the name.
const askLimit = 3 * time.Second

// For the answer to one connection.
const answerLimit = 5 * time.Second

// From one question to the next: how exact the times are.
const followEvery = 20 * time.Millisecond

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	// The image of the sandbox is started without arguments.
	if len(arguments) == 0 || arguments[0] == "wait" {
		wait()
		return nil
	}
	switch order, rest := arguments[0], arguments[1:]; order {
	case "serve":
		return serve(rest)
	case "ask", "follow":
		if len(rest) != 1 {
			return errors.New(order + " HOST:PORT")
		}
		if order == "follow" {
			go follow(rest[0])
			wait()
			return nil
		}
		answer, err := ask(rest[0])
		fmt.Println(answer)
		return err
	default:
		return fmt.Errorf("unknown order %q: wait, serve PORT..., ask HOST:PORT or follow HOST:PORT", order)
	}
}

// wait ends with a signal; as the first process of a pod it also takes in what its children leave.
func wait() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	children := make(chan os.Signal, 16)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-ends:
			return
		case <-children:
			for {
				gone, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
				if gone <= 0 || err != nil {
					break
				}
			}
		}
	}
}

func serve(ports []string) error {
	if len(ports) == 0 {
		return errors.New("serve PORT...")
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, port := range ports {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go accept(listener, name)
	}
	wait()
	return nil
}

func accept(listener net.Listener, name string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		go func() {
			defer connection.Close()
			_ = connection.SetDeadline(time.Now().Add(answerLimit))
			fmt.Fprintf(connection, "%s %s\n", name, connection.LocalAddr())
		}()
	}
}

// ask gives `ADDRESS... answered NAME ADDRESS:PORT`: all that the name leads to, and who answered on the first.
func ask(target string) (string, error) {
	limit, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return "", err
	}
	addresses, err := net.DefaultResolver.LookupHost(limit, host)
	if err != nil {
		return "", err
	}
	slices.Sort(addresses)
	found := strings.Join(addresses, " ")
	dialer := net.Dialer{}
	connection, err := dialer.DialContext(limit, "tcp", net.JoinHostPort(addresses[0], port))
	if err != nil {
		return found, err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(answerLimit))
	answer, err := io.ReadAll(connection)
	if err != nil {
		return found, err
	}
	return found + " answered " + strings.TrimSpace(string(answer)), nil
}

// follow never ends; whoever reads its output sees when a name led where.
func follow(target string) {
	last := ""
	for {
		answer, err := ask(target)
		// Ports and numbers of a lookup change with each try.
		if err != nil {
			answer = strings.TrimSpace(answer + " no answer")
		}
		if answer != last {
			last = answer
			fmt.Println(time.Now().UnixMilli(), answer)
		}
		time.Sleep(followEvery)
	}
}
