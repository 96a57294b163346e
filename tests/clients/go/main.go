// A client in Go: calls every kind of method of a server, and prints what it saw as one JSON object.
//
//	client ADDRESS AGEING DESCRIPTORS
//
// AGEING is a server of the same boards whose connections do not last.
//
// DESCRIPTORS is a file with a google.protobuf.FileDescriptorSet of all services that are called; there
// is no generated code. tests/acceptance/test_foreign_clients.py knows what there is to see.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	ranking    = "standings.v1.RankingService"
	boards     = "standings.v1.BoardService"
	health     = "grpc.health.v1.Health"
	reflection = "grpc.reflection.v1alpha.ServerReflection"
	board      = "go"
	patience   = 60 * time.Second // for all of it
	messages   = 50
	perMessage = 20
	callers    = 100
	tooMuch    = 4*1024*1024 + 1
)

type object = map[string]any

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("client ADDRESS AGEING DESCRIPTORS")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := dial(ctx, os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	seen := object{}
	for _, each := range []struct {
		name string
		look func(*client) (any, error)
	}{
		{"health", healthy}, {"services", services}, {"unary", unary}, {"batch", batch},
		{"page", page}, {"stream", stream}, {"watch", watch}, {"cancelled", cancelled},
		{"deadline", deadline}, {"refused", refused}, {"missing", missing}, {"gzip", zipped},
		{"too_large", tooLarge}, {"unknown", unknown}, {"concurrent", concurrent},
		{"reconnecting", reconnecting},
	} {
		if seen[each.name], err = each.look(c); err != nil {
			log.Fatalf("%s: %v", each.name, err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		log.Fatal(err)
	}
}

func healthy(c *client) (any, error) {
	answer, err := c.ask(c.ctx, health, "Check", object{})
	return answer["status"], err
}

func services(c *client) (any, error) {
	s, err := c.open(c.ctx, reflection, "ServerReflectionInfo")
	if err != nil {
		return nil, err
	}
	if err := s.send(object{"listServices": ""}); err != nil {
		return nil, err
	}
	answer, err := s.receive()
	if err != nil {
		return nil, err
	}
	names := []string{}
	list, _ := answer["listServicesResponse"].(object)
	for _, one := range elements(list, "service") {
		names = append(names, one["name"].(string))
	}
	return names, s.stream.CloseSend()
}

func unary(c *client) (any, error) {
	_, err := c.ask(c.ctx, boards, "CreateBoard", object{"board": object{"boardId": board}})
	if err != nil {
		return nil, err
	}
	ctx := metadata.AppendToOutgoingContext(c.ctx,
		"x-request-id", "go-unary", "trace-bin", string([]byte{0, 1, 254, 255}))
	request := submission(7, 4200)
	request["returnRank"] = true
	answer, err := c.ask(ctx, ranking, "SubmitScore", request)
	if err != nil {
		return nil, err
	}
	entry, _ := answer["entry"].(object)
	return object{"outcome": answer["outcome"], "rank": entry["rank"], "score": entry["score"]}, nil
}

func batch(c *client) (any, error) {
	answer, err := c.ask(c.ctx, ranking, "BatchSubmitScores", batchOf(1, 1000))
	return applied(answer), err
}

func page(c *client) (any, error) {
	request := object{"boardId": board, "pageSize": 1000}
	answer, err := c.ask(c.ctx, ranking, "ListEntries", request)
	entries := elements(answer, "entries")
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	first, last := entries[0], entries[len(entries)-1]
	return []any{len(entries), first["userId"], first["rank"], last["userId"], last["rank"]}, nil
}

func stream(c *client) (any, error) {
	s, err := c.open(c.ctx, ranking, "StreamSubmitScores")
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		for number := range messages {
			request := batchOf(1+number*perMessage, perMessage)
			request["sequence"] = fmt.Sprint(number)
			if err := s.send(request); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.stream.CloseSend()
	}()
	acknowledged, taken := map[any]bool{}, 0
	for {
		answer, err := s.receive()
		if err != nil {
			taking := object{"acknowledged": len(acknowledged), "taken": taken, "status": end(err)}
			return taking, <-sent
		}
		acknowledged[answer["sequence"]] = true
		taken += applied(answer)
	}
}

func watch(c *client) (any, error) {
	s, err := c.follow(c.ctx)
	if err != nil {
		return nil, err
	}
	snapshot, err := s.receive()
	if err != nil {
		return nil, err
	}
	if _, err := c.ask(c.ctx, ranking, "SubmitScore", submission(7, 9000)); err != nil {
		return nil, err
	}
	for {
		changes, err := s.receive()
		if err != nil {
			return nil, err
		}
		if changes["event"] == "WATCH_EVENT_CHANGES" {
			first := elements(changes, "entries")[0]
			return []any{snapshot["event"], first["userId"], first["score"], first["rank"]}, nil
		}
	}
}

func cancelled(c *client) (any, error) {
	ctx, cancel := context.WithCancel(
		metadata.AppendToOutgoingContext(c.ctx, "x-request-id", "go-cancelled"))
	defer cancel()
	s, err := c.follow(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.receive(); err != nil {
		return nil, err
	}
	cancel()
	return s.drained(), nil
}

func deadline(c *client) (any, error) {
	ctx, cancel := context.WithTimeout(
		metadata.AppendToOutgoingContext(c.ctx, "x-request-id", "go-deadline"),
		400*time.Millisecond)
	defer cancel()
	s, err := c.follow(ctx)
	if err != nil {
		return nil, err
	}
	soon, cancelSoon := context.WithTimeout(c.ctx, time.Millisecond)
	defer cancelSoon()
	_, err = c.ask(soon, ranking, "BatchSubmitScores", batchOf(1, 1000))
	return []string{s.drained(), end(err)}, nil
}

func refused(c *client) (any, error) {
	_, err := c.ask(c.ctx, ranking, "SubmitScore", object{"boardId": board, "userId": "7"})
	return told(err), nil
}

func missing(c *client) (any, error) {
	_, err := c.ask(c.ctx, ranking, "GetEntry", object{"boardId": "nowhere", "userId": "7"})
	return told(err), nil
}

func zipped(c *client) (any, error) {
	answer, err := c.ask(
		c.ctx, ranking, "BatchSubmitScores", batchOf(1, 1000), grpc.UseCompressor(gzip.Name))
	return applied(answer), err
}

func tooLarge(c *client) (any, error) {
	request := object{"boardId": strings.Repeat("x", tooMuch), "userId": "7"}
	_, err := c.ask(c.ctx, ranking, "GetEntry", request)
	return end(err), nil
}

func unknown(c *client) (any, error) {
	empty := dynamicpb.NewMessage(c.message("google.rpc.ErrorInfo"))
	err := c.connection.Invoke(c.ctx, "/"+ranking+"/Nonsense", empty, empty)
	return end(err), nil
}

func concurrent(c *client) (any, error) {
	ranks := make(chan any)
	for caller := range callers {
		go func() {
			user := fmt.Sprint(100 + caller)
			request := object{"boardId": board, "userId": user}
			answer, err := c.ask(c.ctx, ranking, "GetEntry", request)
			entry, _ := answer["entry"].(object)
			ranks <- err == nil && entry["userId"] == user
		}()
	}
	right := 0
	for range callers {
		if <-ranks == true {
			right++
		}
	}
	return right, nil
}

// reconnecting calls the server of ageing connections for longer than one lasts; nobody may notice.
func reconnecting(c *client) (any, error) {
	c = &client{c.ctx, c.ageing, nil, c.files, c.types}
	failed := []string{}
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		request := object{"boardId": board, "userId": "7"}
		if _, err := c.ask(c.ctx, ranking, "GetEntry", request); err != nil {
			failed = append(failed, err.Error())
		}
	}
	return failed, nil
}

// A client of services that are known by their descriptors.
type client struct {
	ctx        context.Context
	connection *grpc.ClientConn
	ageing     *grpc.ClientConn
	files      *protoregistry.Files
	types      *dynamicpb.Types
}

func dial(ctx context.Context, address, ageing, descriptors string) (*client, error) {
	data, err := os.ReadFile(descriptors)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(data, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(address, plain, grpc.WithDisableRetry())
	if err != nil {
		return nil, err
	}
	short, err := grpc.NewClient(ageing, plain, grpc.WithDisableRetry())
	return &client{ctx, connection, short, files, dynamicpb.NewTypes(files)}, err
}

func (c *client) method(service, name string) (string, protoreflect.MethodDescriptor) {
	found, err := c.files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		log.Fatal(err)
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	return "/" + service + "/" + name, method
}

func (c *client) message(name string) protoreflect.MessageDescriptor {
	found, err := c.files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		log.Fatal(err)
	}
	return found.(protoreflect.MessageDescriptor)
}

func (c *client) encoded(request object, as protoreflect.MessageDescriptor) (proto.Message, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	message := dynamicpb.NewMessage(as)
	return message, protojson.UnmarshalOptions{Resolver: c.types}.Unmarshal(text, message)
}

func (c *client) decoded(answer proto.Message) (object, error) {
	text, err := protojson.MarshalOptions{Resolver: c.types}.Marshal(answer)
	if err != nil {
		return nil, err
	}
	decoded := object{}
	return decoded, json.Unmarshal(text, &decoded)
}

// ask makes one unary call.
func (c *client) ask(
	ctx context.Context, service, name string, request object, options ...grpc.CallOption,
) (object, error) {
	path, method := c.method(service, name)
	message, err := c.encoded(request, method.Input())
	if err != nil {
		return nil, err
	}
	answer := dynamicpb.NewMessage(method.Output())
	if err := c.connection.Invoke(ctx, path, message, answer, options...); err != nil {
		return nil, err
	}
	return c.decoded(answer)
}

type conversation struct {
	client *client
	method protoreflect.MethodDescriptor
	stream grpc.ClientStream
}

// open begins a stream.
func (c *client) open(ctx context.Context, service, name string) (*conversation, error) {
	path, method := c.method(service, name)
	description := &grpc.StreamDesc{
		ServerStreams: method.IsStreamingServer(), ClientStreams: method.IsStreamingClient()}
	stream, err := c.connection.NewStream(ctx, description, path)
	return &conversation{c, method, stream}, err
}

// follow begins a watch of the board's top.
func (c *client) follow(ctx context.Context) (*conversation, error) {
	s, err := c.open(ctx, ranking, "WatchEntries")
	if err != nil {
		return nil, err
	}
	if err := s.send(object{"boardId": board, "topCount": 3, "minInterval": "0.1s"}); err != nil {
		return nil, err
	}
	return s, s.stream.CloseSend()
}

func (s *conversation) send(request object) error {
	message, err := s.client.encoded(request, s.method.Input())
	if err != nil {
		return err
	}
	return s.stream.SendMsg(message)
}

func (s *conversation) receive() (object, error) {
	answer := dynamicpb.NewMessage(s.method.Output())
	if err := s.stream.RecvMsg(answer); err != nil {
		return nil, err
	}
	return s.client.decoded(answer)
}

// drained reads to the end, and says which it was.
func (s *conversation) drained() string {
	for {
		if _, err := s.receive(); err != nil {
			return end(err)
		}
	}
}

func submission(user, score int) object {
	return object{"boardId": board, "userId": fmt.Sprint(user), "score": fmt.Sprint(score)}
}

func batchOf(first, count int) object {
	list := []object{}
	for user := first; user < first+count; user++ {
		list = append(list, submission(user, user))
	}
	return object{"submissions": list}
}

func elements(of object, name string) []object {
	list, _ := of[name].([]any)
	objects := []object{}
	for _, one := range list {
		objects = append(objects, one.(object))
	}
	return objects
}

// applied counts the results that are no errors.
func applied(answer object) int {
	count := 0
	for _, result := range elements(answer, "results") {
		if _, good := result["response"]; good {
			count++
		}
	}
	return count
}

// end is the code of a call as the contract spells it. The end of a stream is an error, too.
func end(err error) string {
	if err == nil || errors.Is(err, io.EOF) {
		return "OK"
	}
	if status.Code(err) == codes.Canceled {
		return "CANCELLED" // Go has its own spelling.
	}
	words := strings.Builder{}
	for at, letter := range status.Code(err).String() {
		if at > 0 && unicode.IsUpper(letter) {
			words.WriteByte('_')
		}
		words.WriteRune(unicode.ToUpper(letter))
	}
	return words.String()
}

// told is what a status and its details say.
func told(err error) object {
	seen := object{"code": end(err), "message": status.Convert(err).Message()}
	for _, detail := range status.Convert(err).Details() {
		switch one := detail.(type) {
		case *errdetails.ErrorInfo:
			seen["reason"], seen["domain"] = one.Reason, one.Domain
		case *errdetails.BadRequest:
			for _, violation := range one.FieldViolations {
				seen["field"] = violation.Field
			}
		}
	}
	return seen
}
